// A refit's report, fetched with the key that a link cannot carry, in a frame that may do nothing.

import { Refused, send } from "/console/api.js";

const job = location.hash.slice(1);

function show(text) {
  const frame = document.getElementById("report");
  frame.srcdoc = text;
  frame.hidden = false;
  const save = document.getElementById("save");
  save.href = URL.createObjectURL(new Blob([text], { type: "text/html" }));
  save.download = `refit-${job}.html`;
  save.hidden = false;
}

function tell(error) {
  const trouble = document.getElementById("trouble");
  trouble.textContent = error.status === 401 ? `${error.message}. Give it in the console.` : error.message;
  trouble.hidden = false;
}

document.getElementById("back").addEventListener("click", () => sessionStorage.setItem("job", job));
addEventListener("hashchange", () => location.reload());
try {
  show(await (await send(`/v1/refit/${encodeURIComponent(job)}/report.html`)).text());
} catch (error) {
  if (!(error instanceof Refused)) throw error;
  tell(error);
}
