// Two heads beside each other, before one takes the other's place: their recalls on the same rows, and what the gate said.

import { Refused, get } from "./api.js";
import { NONE, count, h, many, percent, table } from "./draw.js";

const MEASURES = {
  many: "classes of many images", medium: "classes of some images", few: "classes of few images",
  all: "all images", balanced: "mean of all classes",
}; // what the gate compares, in words
const GONE = [403, 404]; // a refit that was removed, or is for other keys

async function refitOf(head, signal) {
  if (!head.lineage.refit) return null;
  try {
    return await get(`/v1/refit/${head.lineage.refit}`, signal);
  } catch (error) {
    if (error instanceof Refused && GONE.includes(error.status)) return null;
    throw error;
  }
}

// What was measured of both heads on the same rows: { from, to, rows }; null where they never were.
function onSameRows(from, to, jobs) {
  for (const [parent, child] of [[from, to], [to, from]]) {
    const report = jobs.get(child.version)?.report;
    if (child.lineage.parent !== parent.version || !report) continue;
    const [ofFrom, ofTo] = child === to ? [report.live, report.candidate] : [report.candidate, report.live];
    return { from: ofFrom, to: ofTo, rows: report.rows };
  }
  const same = from.lineage.holdout && from.lineage.holdout === to.lineage.holdout;
  return same ? { from: from.metrics, to: to.metrics, rows: jobs.get(to.version)?.report?.rows } : null;
}

function difference(before, after) {
  if (typeof before !== "number" || typeof after !== "number") return h("td", {}, NONE);
  const points = 100 * (after - before);
  const sign = points < 0 ? "−" : "+";
  return h("td", { className: points < 0 ? "bad" : "good" }, `${sign}${Math.abs(points).toFixed(1)} points`);
}

function recalls(from, to, same) {
  const [before, after] = same ? [same.from, same.to] : [from.metrics, to.metrics];
  const titles = ["recognised", `#head ${from.version}`, `#head ${to.version}`, ...(same ? ["#change"] : [])];
  const rows = Object.entries(MEASURES).map(([name, words]) => {
    const values = [words, percent(before[name]), percent(after[name])];
    return same ? [...values, difference(before[name], after[name])] : values;
  });
  return table(`Heads ${from.version} and ${to.version}`, titles, rows);
}

function measuredOn(same) {
  if (!same) return "These two were never measured on the same images, so their numbers cannot be compared: each is of images of its own.";
  const images = same.rows ? `the same ${many(same.rows, "held-out image")}` : "the same held-out images";
  return `Both were measured on ${images}.`;
}

function classesOf(from, to) {
  const grown = to.classes - from.classes;
  if (!grown) return `Both know ${many(to.classes, "class", "classes")}.`;
  return `Head ${to.version} knows ${many(Math.abs(grown), "class", "classes")} ${grown > 0 ? "more" : "less"}: ${count(to.classes)}.`;
}

// What the gate said of a head, with its reasons; of one that came with the bundle it said nothing.
function gateOf(head, job) {
  if (!head.lineage.refit) return null;
  const gate = job?.verdict?.gate;
  if (!gate) return h("p", {}, `What the gate said of head ${head.version} is not kept any more.`);
  return h("div", {}, h("p", { className: gate.answer === "yes" ? "good" : "bad" }, h("b", {}, `Of head ${head.version} the gate said ${gate.answer}.`)),
    gate.reasons.length ? h("ul", {}, gate.reasons.map((reason) => h("li", {}, reason))) : null);
}

// What somebody should know before head `to` takes the place of `from`: { shown, overrules }.
export async function comparison(from, to, signal) {
  const jobs = new Map(await Promise.all([from, to].map(async (head) => [head.version, await refitOf(head, signal)])));
  const same = onSameRows(from, to, jobs);
  const gate = jobs.get(to.version)?.verdict?.gate;
  const left = jobs.get(from.version)?.verdict?.gate;
  return {
    shown: [recalls(from, to, same), h("p", {}, measuredOn(same)), h("p", {}, classesOf(from, to)), gateOf(to, jobs.get(to.version)),
      left && left.answer !== "yes" ? gateOf(from, jobs.get(from.version)) : null].filter(Boolean),
    overrules: Boolean(gate) && gate.answer !== "yes",
  };
}
