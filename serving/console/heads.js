// The line of heads, what is live, and the way there and back.

import { Refused, get, getPages, post } from "./api.js";
import { comparison } from "./compare.js";
import { NONE, ago, empty, h, many, percent, short, table } from "./draw.js";
import { DEFAULT, allLines, lineChooser } from "./lines.js";
import { sure } from "./question.js";
import { starting, trials } from "./trials.js";
import { attempt } from "./trouble.js";

const MEASURES = ["many", "medium", "few", "all"];
const WHAT = "A head decides between the classes, and one of them is live. A refit makes a new one; the gate compares it with the live one on held-out images and says yes, no or not measured.";
const LOGGED = 20;

function origin({ parent, snapshots, holdout, refit, line }) {
  if (!refit) return "the bundle";
  const text = `head ${parent}${snapshots.length ? `, ${many(snapshots.length, "snapshot")}` : ""}`;
  return h("details", {}, h("summary", {}, text),
    h("p", {}, "refit ", h("code", {}, refit)),
    snapshots.map((sha) => h("p", {}, "snapshot ", h("code", {}, short(sha)))),
    line ? h("p", {}, `for the line ${line}`) : null,
    h("p", {}, "compared on ", holdout ? h("code", {}, short(holdout)) : "a share of the rows"));
}

function verdict(head, jobs) {
  if (!head.lineage.refit) return NONE;
  const job = jobs?.get(head.lineage.refit);
  if (!job) return jobs?.more ? NONE : h("span", { className: "quiet" }, jobs ? "refit is gone" : "for other keys");
  const gate = job.verdict?.gate;
  if (!gate) return job.state;
  if (gate.answer === "yes") return h("span", { className: "good" }, "yes");
  return h("details", {}, h("summary", { className: "bad" }, gate.answer), gate.reasons.map((reason) => h("p", {}, reason)));
}

// The refits by id, `more` where there are older ones; null where the key may not see them.
async function refits(pages, signal) {
  try {
    const { refits: jobs, next } = await getPages("/v1/refit", "refits", pages, signal);
    return Object.assign(new Map(jobs.map((job) => [job.id, job])), { more: Boolean(next) });
  } catch (error) {
    if (error instanceof Refused && error.status === 403) return null;
    throw error;
  }
}

export async function show(content, signal, pages = 1, wanted = DEFAULT) {
  const again = () => show(content, signal, pages, wanted);
  const lines = await allLines(signal);
  const line = (lines.find(({ name }) => name === wanted) ?? lines[0]).name; // it may be gone, or another key's
  const of = `line=${encodeURIComponent(line)}`;
  const where = line === DEFAULT ? "" : ` in the line ${line}`;
  const [{ live, heads, next }, { activations, before }, jobs, tried] = await Promise.all([
    getPages(`/v1/heads?${of}`, "heads", pages, signal), get(`/v1/activations?limit=${LOGGED}&${of}`, signal), refits(pages, signal),
    line === DEFAULT ? trials(signal, again) : null, // they are of this line only
  ]);
  const numbered = new Map(heads.map((head) => [head.version, head]));
  for (const version of [live, before]) { // what is compared may be on a page that is not shown
    if (version === null || numbered.has(version)) continue;
    const head = await get(`/v1/heads/${version}`, signal).catch(() => null);
    if (head) numbered.set(version, head);
  }

  async function change(question, target, deed, path) {
    const there = target && numbered.has(live);
    const found = there ? comparison(numbered.get(live), target, signal) : Promise.resolve({ shown: [], overrules: false });
    const reason = await sure(question, found, deed);
    if (reason === null) return;
    await attempt(() => post(`${path}?${of}`, { reason, expected_live: live }).finally(again));
    dispatchEvent(new Event("changed"));
    document.getElementById("content").focus(); // the button that had it is gone
  }

  function activate(head) {
    const deed = `Activate head ${head.version}`;
    const act = () => change(`Make head ${head.version} live instead of head ${live}${where}?`, head, deed, `/v1/heads/${head.version}/activate`);
    return h("button", { ariaLabel: deed, onclick: act }, "Activate");
  }

  const back = h("button", { disabled: before === null, onclick: () => change(
    `Go back from head ${live} to head ${before}${where}?`, numbered.get(before), `Roll back to head ${before}`, "/v1/heads/rollback") },
  before === null ? "Nothing to roll back to" : `Roll back to head ${before}`);
  const rows = heads.map((head) => ({
    live: head.version === live,
    cells: [
      h("td", { className: "name" }, String(head.version), head.version === live ? h("span", { className: "chip" }, "live") : ""),
      ago(head.created), String(head.classes), ...MEASURES.map((name) => percent(head.metrics[name])),
      origin(head.lineage), verdict(head, jobs),
      jobs?.get(head.lineage.refit)?.state === "succeeded" ? h("a", { href: `console/report.html#${head.lineage.refit}` }, "read") : NONE,
      head.version === live ? NONE : h("span", {}, activate(head), tried ? [" ", starting(head.version, live, again)] : null),
    ],
  }));
  const log = activations.map((one) => [String(one.number), String(one.head), one.kind, ago(one.at), one.actor, one.reason || NONE]);
  content.replaceChildren(
    h("div", { className: "titled" }, h("h2", {}, "Heads"), back),
    lineChooser(lines, line, (name) => attempt(() => show(content, signal, 1, name).then(() => content.querySelector("select").focus()))) ?? "",
    h("p", { className: "quiet" }, WHAT),
    table("Heads, the newest first", ["head", "made", "#classes", ...MEASURES.map((name) => `#${name}`), "from", "gate", "report", "go live"],
      rows, "stacked"),
    ...(next ? [h("p", {}, h("button", { onclick: () => attempt(() => show(content, signal, pages + 1, wanted)) }, "Show older heads"))] : []),
    h("p", { className: "quiet" }, "The share of held-out images that a head recognised when it was made: of the classes with many, some and few training images, and of all images. Each head has images of its own, so compare two where one would take the other's place."),
    ...(tried ?? []),
    h("h2", {}, "What went live"),
    log.length ? table("What went live, the newest first", ["#change", "#head", "how", "when", "by", "reason"], log, "stacked")
      : empty("Nothing yet."),
  );
}
