// The line of heads, what is live, and the way there and back.

import { Refused, get, post } from "/console/api.js";
import { ago, h, number, percent, table } from "/console/draw.js";
import { attempt } from "/console/main.js";

const MEASURES = ["many", "medium", "few", "balanced"];

// Ask before something changes, and show what.
export function sure(question, change) {
  const dialog = document.getElementById("sure");
  document.getElementById("question").textContent = question;
  document.getElementById("change").replaceChildren(change);
  document.getElementById("reason").value = "";
  dialog.returnValue = "no";
  dialog.showModal();
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => {
      resolve(dialog.returnValue === "yes" ? document.getElementById("reason").value : null);
    }, { once: true });
  });
}

function comparison(from, to) {
  const rows = MEASURES.map((name) => {
    const [before, after] = [from.metrics[name], to.metrics[name]];
    const change = typeof before === "number" && typeof after === "number" ? 100 * (after - before) : null;
    const shown = change === null ? "–" : `${change >= 0 ? "+" : "−"}${Math.abs(change).toFixed(1)}`;
    const cell = h("td", { className: `number ${change === null ? "" : change < 0 ? "bad" : "good"}` }, shown);
    return { cells: [name, number(percent(before)), number(percent(after)), cell] };
  });
  return [table(["recall, %", `#head ${from.version}`, `#head ${to.version}`, "#change"], rows),
    h("p", { className: "quiet" }, "Each was measured when it was made, on its own held-out rows.")];
}

async function verdictOf(head) {
  if (!head.lineage.refit) return { text: "came with the bundle" };
  try {
    const job = await get(`/v1/refit/${head.lineage.refit}`);
    const gate = job.verdict?.gate;
    const reasons = (gate?.reasons ?? []).map((reason) => h("p", {}, reason));
    const text = gate?.passed ? "passed" : reasons.length ? h("details", {}, h("summary", {}, "refused"), reasons) : job.state;
    return { text, job: job.report ? job.id : null };
  } catch (error) {
    if (error instanceof Refused && [403, 404].includes(error.status)) return { text: "refit not shown here" };
    throw error;
  }
}

export async function show(content) {
  const [{ live, heads }, { activations }] = await Promise.all([get("/v1/heads"), get("/v1/activations?limit=20")]);
  const verdicts = await Promise.all(heads.map(verdictOf));
  const current = heads.find((head) => head.version === live);
  const again = () => attempt(() => show(content));

  async function activate(head) {
    const reason = await sure(`Make head ${head.version} live instead of head ${live}?`, h("div", {}, comparison(current, head)));
    if (reason === null) return;
    await attempt(() => post(`/v1/heads/${head.version}/activate`, { reason, expected_live: live }));
    await again();
  }

  async function rollback() {
    const before = activations.find((one) => one.head !== live);
    const target = heads.find((head) => head.version === before?.head);
    const shown = target ? comparison(current, target) : [h("p", {}, "To the head that was live before.")];
    const reason = await sure("Go back to the head that was live before?", h("div", {}, shown));
    if (reason === null) return;
    await attempt(() => post("/v1/heads/rollback", { reason, expected_live: live }));
    await again();
  }

  const rows = heads.map((head, place) => ({
    live: head.version === live,
    cells: [
      number(String(head.version)), head.version === live ? "● live" : "", ago(head.created), number(head.lineage.parent ?? "–"),
      ...MEASURES.map((name) => number(percent(head.metrics[name]))), verdicts[place].text,
      verdicts[place].job ? h("a", { href: `#refit`, onclick: () => sessionStorage.setItem("job", verdicts[place].job) }, "report") : "",
      head.version === live ? "" : h("button", { onclick: () => activate(head) }, "Activate"),
    ],
  }));
  const log = activations.map((one) => ({
    cells: [number(String(one.number)), number(String(one.head)), one.kind, one.actor, one.reason, one.at.slice(0, 19).replace("T", " ")],
  }));
  content.replaceChildren(
    h("h2", {}, "Heads"),
    table(["#version", "", "made", "#parent", ...MEASURES.map((name) => `#${name}`), "gate", "", ""], rows),
    h("p", {}, h("button", { onclick: rollback, disabled: activations.length < 2 }, "Roll back")),
    h("h2", {}, "What went live"),
    table(["#", "#head", "how", "by", "reason", "when (UTC)"], log),
  );
}
