// Heads on trial: what each has come to beside the live one, and the way to start and end one.

import { Refused, get, post, send } from "./api.js";
import { NONE, ago, count, empty, h, many, percent, table } from "./draw.js";
import { sure } from "./question.js";
import { attempt } from "./trouble.js";

const WHAT = "A head on trial computes beside the live one. Only a canary's answers are sent. Labels from use tell which of the two is right more often.";
const HOW = { shadow: "counted only", canary: "answers a share", bake: "live, and watched" };
const OUTCOMES = {
  over: "its time is over", ended: "ended", stopped: "stopped", rolled_back: "rolled back", activated: "went live",
  overtaken: "another head went live",
};
const TITLES = ["trial", "#head", "#beside", "how", "state", "#answers", "#differ", "#labels", "#right", "#the other", "difference", "end"];
const PARTS = ["#answers", "#differ", "#labels", "#right", "#the other"];
const LISTED = 5;
const CLASSES = 100; // of a trial, at most

const plainly = (text) => Promise.resolve({ shown: [h("p", {}, text)], overrules: false });

function state({ start, end }) {
  if (!end) return h("span", {}, start.mode === "canary" ? `${percent(start.share)}, until ` : "until ", new Date(start.until).toLocaleString());
  return h("details", {}, h("summary", {}, OUTCOMES[end.outcome] ?? end.outcome), h("p", {}, ago(end.at), `, by ${end.actor}`), end.reason ? h("p", {}, end.reason) : "");
}

function difference({ low = null, high = null } = {}) {
  if (low === null) return NONE;
  const points = (value) => `${value < 0 ? "−" : "+"}${Math.abs(100 * value).toFixed(1)}`;
  return `${points(low)} to ${points(high)} points`;
}

function row(trial, ending) {
  const { start, end, groups } = trial;
  const all = groups.all ?? {};
  const compared = all.compared ?? 0;
  return [
    String(start.number), String(start.head), String(start.against), HOW[start.mode], state(trial), count(compared),
    compared ? percent(all.disagreed / compared) : NONE, count(all.labels ?? 0), percent(all.recall), percent(all.recall_against), difference(all),
    end ? NONE : ending(start),
  ];
}

function part(name, { compared, disagreed, labels, recall, recall_against: other }) {
  return [name, count(compared), compared ? percent(disagreed / compared) : NONE, count(labels), percent(recall), percent(other)];
}

// What a trial has come to in each group, and in each class that was answered or labelled.
function parts({ start, groups, classes }) {
  const first = classes.slice(0, CLASSES); // those that the heads differ on most come first
  const more = classes.length > first.length ? h("p", { className: "quiet" }, `These are the ${CLASSES} of ${count(classes.length)} classes that the heads differ on most.`) : "";
  const named = Object.entries(groups).filter(([name]) => name !== "all");
  return h("details", {}, h("summary", {}, `Trial ${start.number} by group and by class`),
    table(`Trial ${start.number} by group`, ["group", ...PARTS], named.map(([name, one]) => part(name, one)), "stacked"),
    table(`Trial ${start.number} by class`, ["class", ...PARTS], first.map((one) => part(one.name, one)), "stacked"), more);
}

// A button that puts a head on trial beside the live one, for a week.
export function starting(head, live, again) {
  const deed = `Try head ${head}`;
  return h("button", { ariaLabel: deed, onclick: async () => {
    const text = "For a week it computes beside the live head and is counted. Nobody gets its answers.";
    const reason = await sure(`Try head ${head} beside head ${live}?`, plainly(text), deed);
    if (reason !== null) await attempt(() => post("/v1/trials", { head, until: "7d", reason }).finally(again));
  } }, "Try");
}

// The newest trials with what they have come to; null where they are for other keys. `again` draws the page anew.
export async function trials(signal, again) {
  let listed, next;
  try {
    ({ trials: listed, next } = await get(`/v1/trials?limit=${LISTED}`, signal));
  } catch (error) {
    if (error instanceof Refused && error.status === 403) return null;
    throw error;
  }
  const whole = await Promise.all(listed.map((one) => get(`/v1/trials/${one.start.number}`, signal)));
  const ending = ({ number }) => h("button", { ariaLabel: `End trial ${number}`, onclick: () =>
    attempt(() => send(`/v1/trials/${number}`, { method: "DELETE" }).finally(again)) }, "End");
  const notes = whole.filter((one) => !one.end).flatMap((one) => one.notes.map((note) => h("p", { className: "quiet" }, `Trial ${one.start.number}: ${note}`)));
  return [
    h("h2", {}, "On trial"), h("p", { className: "quiet" }, WHAT),
    whole.length ? table("Heads on trial, the newest first", TITLES, whole.map((one) => row(one, ending)), "stacked") : empty("No head was ever on trial."),
    ...whole.filter(({ classes }) => classes.length).map(parts), ...notes,
    ...(next ? [h("p", { className: "quiet" }, `These are the newest ${many(LISTED, "trial")}; breadcrumbs trials lists all.`)] : []),
  ];
}
