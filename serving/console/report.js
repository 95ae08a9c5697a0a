// A refit's report, fetched with the key that a link cannot carry, in a frame that may do nothing.

import { send } from "./api.js";
import { tell } from "./trouble.js";

const job = location.hash.slice(1);

function show(text) {
  const frame = document.getElementById("report");
  frame.srcdoc = text;
  frame.hidden = false;
  const save = document.getElementById("save");
  save.href = URL.createObjectURL(new Blob([text], { type: "text/html" })); // ends with the page
  save.download = `refit-${job}.html`;
  save.hidden = false;
}

document.getElementById("back").addEventListener("click", () => sessionStorage.setItem("breadcrumbs-job", job));
for (const change of ["hashchange", "key", "back"]) addEventListener(change, () => location.reload());
try {
  show(await (await send(`/v1/refit/${encodeURIComponent(job)}/report.html`)).text());
} catch (error) {
  tell(error);
} finally {
  document.querySelector(".loading").remove();
}
