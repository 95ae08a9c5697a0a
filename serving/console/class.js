// What there is of one class: its newest examples with their pictures, what it is taken for, and how it is changed.

import { get, send } from "./api.js";
import { ago, empty, h } from "./draw.js";
import { classField } from "./labels.js";
import { thumbnail } from "./reviewed.js";
import { attempt } from "./trouble.js";

const SHOWN = 6; // newest examples

async function pictureOf(example, signal) {
  const [kind, id] = example.source.split(":");
  if (kind !== "answer") return null;
  const answer = await get(`/v1/answers/${id}`, signal).catch(() => null); // it is not remembered any more
  return answer?.thumbnail ? thumbnail(answer.thumbnail, "") : null;
}

async function exampleLine(example, changed, signal) {
  const name = example.ref || example.content.slice(0, 12);
  const take = h("button", { type: "button", ariaLabel: `Take back ${name}`, onclick: () => attempt(async () => {
    await send(`/v1/examples/${example.id}`, { method: "DELETE" });
    line.remove();
    await changed();
  }) }, "Take back");
  const line = h("li", {}, await pictureOf(example, signal), h("span", { className: "wide" }, name,
    h("span", { className: "quiet" }, ", ", example.by || "nobody named", ", ", ago(example.at), example.verified ? "" : ", not sure")), take);
  return line;
}

async function newest(name, changed, signal) {
  const { examples, next } = await get(`/v1/examples?class=${encodeURIComponent(name)}&limit=${SHOWN}`, signal);
  if (!examples.length) return empty("No examples yet: Teach and Review make them.");
  const lines = await Promise.all(examples.map((one) => exampleLine(one, changed, signal)));
  return h("div", {}, h("h3", {}, next ? `Its ${SHOWN} newest examples` : "Its examples"), h("ul", { className: "examples" }, lines));
}

function confusions(taken) {
  if (!taken.length) return null;
  return h("p", {}, "Of its held-out images, the live head took ", taken.map(({ predicted, candidate }) => `${candidate} for ${predicted}`).join(", "), ".");
}

// How a class that is known is renamed, merged or removed; `edit` hears its new name, or null.
function editing(name, known, edit) {
  const field = classField(`New name of ${name}`, known);
  const change = h("form", { className: "other", onsubmit: (event) => {
    event.preventDefault();
    if (field.name() && field.name() !== name) edit(field.name());
  } }, field.element, h("button", {}, "Rename or merge"));
  return [change, h("p", { className: "acts" }, h("button", { type: "button", onclick: () => edit(null) }, `Remove ${name}`))];
}

// The whole of a class, read when somebody looks.
export async function classDetail(one, taken, known, { edit, changed }, signal) {
  const more = one.examples ? await newest(one.name, changed, signal) : empty("No examples yet: Teach and Review make them.");
  return h("div", { className: "detail" }, confusions(taken), more,
    one.known ? editing(one.name, known, edit) : h("p", { className: "quiet" }, "No head has learned it yet."));
}

// Changes of classes that wait for a refit, a line each, with a way back.
export function editList(edits, known, takeBack) {
  const line = ([name, fresh]) => {
    const words = fresh === null ? `${name} is removed` : known.classes.has(fresh) ? `${name} becomes part of ${fresh}` : `${name} is renamed to ${fresh}`;
    return h("li", {}, h("span", { className: "wide" }, words), h("button", { type: "button", ariaLabel: `Leave ${name} as it is`, onclick: () => takeBack(name) }, "Leave it"));
  };
  return edits.size ? h("ul", { className: "examples changes" }, [...edits].map(line)) : h("p", { className: "quiet" }, "Nothing is to be changed. Open a class to rename, merge or remove it.");
}
