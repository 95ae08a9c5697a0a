// A refit while it runs, stage by stage, and what came of it.

import { Refused, events, get, send } from "./api.js";
import { NONE, count, h, line, many, percent, table } from "./draw.js";
import { attempt, back, tell } from "./trouble.js";

const STAGES = {
  read: "read the images' features", transfer: "bring older ones over", choose: "choose the settings", solve: "fit",
  judge: "compare on held-out images", baselines: "try other ways", certificate: "check the theory", report: "write the report",
}; // in words, in their order
const NAMES = Object.keys(STAGES);
const MEASURES = ["many", "medium", "few", "balanced", "all"];
const SHOWN = "breadcrumbs-job"; // the refit that this tab shows
const AGAIN = 1000; // ms before a stream that broke is taken up again
const OPEN = 50; // new classes; the table of more is closed until somebody looks

// The refit that this tab shows, on whatever part.
export function keepShown(id) {
  sessionStorage.setItem(SHOWN, id);
}

export function keptShown() {
  return sessionStorage.getItem(SHOWN);
}

export function ended(job) {
  return job.finished !== null;
}

// What a running refit looks like, and how it changes with each event.
function progress(id) {
  const steps = Object.values(STAGES).map((words) => h("li", {}, words));
  const bar = h("progress", { max: NAMES.length, ariaLabel: "stages done" });
  const words = h("p", { ariaLive: "polite" }, "Waiting in line.");
  const made = h("p", { ariaLive: "polite", hidden: true });
  const solver = h("p", { className: "quiet" });
  const { element, redraw } = line();
  const norms = [];
  element.setAttribute("hidden", "");
  const stop = h("button", { onclick: () => attempt(() => send(`/v1/refit/${id}`, { method: "DELETE" })) }, "Cancel this refit");

  function reach(stage) {
    const place = NAMES.indexOf(stage);
    if (place < 0) return;
    bar.value = place;
    steps.forEach((step, index) => {
      step.className = index < place ? "done" : "";
      step.ariaCurrent = index === place ? "step" : null;
    });
  }

  function hear(event) {
    if (event.event === "progress") {
      norms.push(Math.log10(Math.max(event.gradient_norm, 1e-30)));
      solver.textContent = `${event.l2 === undefined ? "" : `λ ${event.l2}, `}iteration ${event.iteration}, gradient norm ${event.gradient_norm.toExponential(1)}`;
      element.toggleAttribute("hidden", norms.length < 2);
      redraw(norms);
      return;
    }
    if (event.event === "live" || event.event === "stored") {
      stop.hidden = true; // the head is made; only its report is missing
      made.hidden = false;
      made.className = event.activated ? "good" : "";
      made.textContent = `Head ${event.head} is ${event.event}: ${event.note}. The report follows.`;
      return;
    }
    reach(event.stage);
    const named = NAMES.indexOf(event.stage);
    const step = named < 0 ? event.stage ?? event.state : `Step ${named + 1} of ${NAMES.length}: ${STAGES[event.stage]}`;
    words.textContent = event.message ? `${step}: ${event.message}` : step;
  }

  const card = h("div", { className: "card job" }, h("div", { className: "titled" }, h("h3", {}, "Refit ", h("code", {}, id)), stop),
    bar, h("ol", { className: "steps" }, steps), words, made, solver, element);
  return { card, hear };
}

function outcome(job) {
  const { verdict } = job;
  if (!verdict) return h("p", { className: job.error ? "bad" : "quiet" }, job.error?.message ?? `This refit is ${job.state}.`);
  const { answer, reasons } = verdict.gate;
  return h("div", {}, h("p", { className: answer === "yes" ? "good" : "bad" }, h("b", {}, `The gate says ${answer}.`)),
    reasons.length ? h("ul", {}, reasons.map((reason) => h("li", {}, reason))) : null,
    h("p", {}, `Head ${verdict.head}, compared with head ${verdict.compared}: ${verdict.note}.`));
}

const JUDGES = { pinned: "those that the operator has pinned", snapshot: "those of the snapshot to compare on",
  bundle: "those that the bundle carries", split: "a share of the images" };

function fresh(classes) {
  const rows = classes.map(({ name, images, rows: judged, recall }) => [h("td", { className: "name" }, name), count(images), count(judged),
    recall ? `${percent(recall.value)} (${percent(recall.low)} to ${percent(recall.high)})` : NONE]);
  const shown = table("New classes", ["new class", "#images to learn from", "#measured on", "#recognised (95 % interval)"], rows, "stacked");
  return rows.length > OPEN ? h("details", {}, h("summary", {}, `${count(rows.length)} new classes`), shown) : shown;
}

function certainty({ temperature, groups: { all } }) {
  return h("p", { className: "quiet" }, `Probabilities: temperature ${temperature.value.toFixed(2)}; calibration error ${percent(all.before.ece.value)} without it, ${percent(all.after.ece.value)} with it.`);
}

function measured({ live, candidate, rows, holdout, calibration, new_classes: added = [], notes = [] }) {
  const bar = (value, kind) => {
    const fill = h("div", { className: `fill ${kind}` });
    fill.style.width = `${100 * value}%`;
    return h("div", { className: "track" }, fill);
  };
  const names = MEASURES.filter((name) => typeof candidate[name] === "number");
  const cells = names.map((name) => [name, percent(live[name]), percent(candidate[name]),
    h("td", { className: "share", ariaHidden: "true" }, bar(live[name], ""), bar(candidate[name], "second"))]);
  return [table("Recall of both heads", ["recall", "#live", "#new", "side by side"], cells, "recalls"),
    added.length ? fresh(added) : null,
    h("p", { className: "quiet" }, `On ${many(rows, "held-out row")}, ${JUDGES[holdout.source] ?? holdout.source}.`),
    calibration ? certainty(calibration) : null,
    ...notes.map((words) => h("p", { className: "quiet" }, words))];
}

function result(job) {
  const head = job.verdict ? `: head ${job.verdict.head}` : "";
  return h("div", { className: "card job" }, h("h3", {}, `Refit ${job.state}${head}`),
    outcome(job),
    job.report ? measured(job.report) : null,
    job.report ? h("p", { className: "links" }, h("a", { href: `console/report.html#${job.id}` }, "Read the whole report"),
      job.verdict ? h("a", { href: "#heads" }, "See the heads") : null) : null);
}

// Show a refit until it has ended, then what came of it; a broken connection is taken up where it broke.
export async function follow(id, place, signal) {
  let job = await get(`/v1/refit/${id}`, signal);
  if (!ended(job)) {
    const { card, hear } = progress(id);
    place.replaceChildren(card);
    for (let last = 0; !ended(job);) {
      try {
        for await (const event of events(id, last, signal)) {
          last = event.id;
          hear(event);
        }
        job = await get(`/v1/refit/${id}`, signal);
        if (!ended(job)) await new Promise((resolve) => setTimeout(resolve, AGAIN));
      } catch (error) {
        if (!(error instanceof Refused) || error.status) throw error;
        tell(error);
        await back(signal);
      }
    }
  }
  place.replaceChildren(result(job));
  dispatchEvent(new Event("changed")); // another head may be live
  return job;
}
