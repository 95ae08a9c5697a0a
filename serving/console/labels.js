// What a person says: the class of something, with completion; kept by the server, and taken back.

import { Refused, get, post, send } from "./api.js";
import { h, many } from "./draw.js";
import { base64, checkReadable } from "./photos.js";
import { back, tell } from "./trouble.js";

const NAME = "breadcrumbs-name"; // of the person, for this tab
const GONE = [404, 410];
let fields = 0;

// The classes that the server knows: their names complete every field of a page, by one list for all of them.
export async function knownClasses(signal) {
  const list = h("datalist", { id: "known-classes" });
  const known = { list, classes: new Map(), refresh };

  async function refresh() {
    const { classes } = await get("/v1/classes", signal);
    known.classes = new Map(classes.map((one) => [one.name, one]));
    list.replaceChildren(...classes.map(({ name }) => h("option", { value: name })));
  }
  await refresh();
  return known;
}

function about(name, classes) {
  if (!name) return "";
  const one = classes.get(name);
  if (one?.known) {
    const parts = [one.train_images ? many(one.train_images, "training image") : null, many(one.examples, "example")];
    return `A known class: ${parts.filter(Boolean).join(", ")}.`;
  }
  const alike = [...classes.keys()].find((other) => other !== name && other.toLowerCase() === name.toLowerCase());
  if (alike) return `A new class. There is one called ${alike}: is that what you mean?`;
  if (one) return `A new class with ${many(one.examples, "example")}; it is not learned yet.`;
  return "A new class. It takes two photos at least; five are better.";
}

// A field for a class that completes what is known, and says what that is. `name()` is what was written.
export function classField(label, known, changed = () => {}) {
  const id = `class-${fields += 1}`;
  const hint = h("span", { id: `${id}-hint`, className: "quiet", ariaLive: "polite" });
  const input = h("input", { id, maxLength: 1000, autocomplete: "off", spellcheck: false, "aria-describedby": hint.id });
  input.setAttribute("list", known.list.id);
  const name = () => input.value.trim();
  const redraw = () => { hint.textContent = about(name(), known.classes); };
  input.addEventListener("input", () => {
    redraw();
    changed();
  });
  const element = h("div", { className: "class" }, h("label", { htmlFor: id }, label), input, hint);
  return { element, name, redraw };
}

// Who says it, and whether a refit may believe it.
export function author() {
  const name = h("input", { maxLength: 200, autocomplete: "name", value: sessionStorage.getItem(NAME) ?? "" });
  name.addEventListener("change", () => sessionStorage.setItem(NAME, name.value.trim()));
  const sure = h("input", { type: "checkbox", checked: true });
  const elements = [h("label", {}, "Your name, if you like", name),
    h("label", { className: "check" }, sure, h("span", {}, "I am sure, so learn from it"))];
  return { elements, said: () => ({ by: name.value.trim(), verified: sure.checked }) };
}

async function keep(label) {
  const { labels } = await post("/v1/labels", { labels: [label] });
  return labels[0]; // { example, change }
}

// Keep the class of a thing, { answer } or { file } or both: a file is sent only where its answer is not remembered.
export async function label(thing, said) {
  if (thing.answer) {
    try {
      return await keep({ answer: thing.answer, ...said });
    } catch (error) {
      if (!thing.file || !GONE.includes(error.status)) throw error;
    }
  }
  await checkReadable(thing.file);
  return keep({ image: await base64(thing.file), ...said });
}

// Undo a label: what had none has none again, what had another one has that again.
export async function takeBack(thing, { example, change }) {
  if (change === "same") return;
  const { history } = await get(`/v1/examples/${example}`);
  const former = history.at(-2);
  if (change === "changed" && former) await label(thing, { class: former.class, by: former.by, verified: former.verified });
  else await send(`/v1/examples/${example}`, { method: "DELETE" });
}

// Do it, and again when a server that was gone is back.
export async function persist(work, signal) {
  for (;;) {
    try {
      return await work();
    } catch (error) {
      if (!(error instanceof Refused) || error.status !== 0) throw error;
      tell(error);
      await back(signal);
    }
  }
}
