// The answers that are worth a label, one at a time or many: the first five classes by keys, another one by name, undo.

import { Refused, get } from "./api.js";
import { empty, h, many } from "./draw.js";
import { author, knownClasses, label, persist, takeBack } from "./labels.js";
import { learning } from "./learn.js";
import { keepTemplate, reviewCard, template } from "./reviewed.js";
import { attempt, concernsAll } from "./trouble.js";

const ORDERS = [["mixed", "some of each"], ["rare", "perhaps rare classes"], ["uncertain", "where it is unsure"], ["far", "unlike all it knows"]];
const VIEWS = [["one", "one at a time"], ["grid", "many at once"]];
const ASKED = 100;

const OFF = "This server does not remember its answers, so there is nothing to review: start it with --remember 10000 to keep the last ten thousand (and --remember-images to keep small pictures of them).";

function choices(list) {
  return h("select", {}, list.map(([value, words]) => h("option", { value }, words)));
}

export async function show(content, signal) {
  const [first, known] = await Promise.all([get(`/v1/queue?n=${ASKED}`, signal), knownClasses(signal)]);
  if (!first.remembers && !first.answers.length) {
    content.replaceChildren(h("h2", {}, "Review"), empty(OFF));
    return;
  }
  const order = choices(ORDERS);
  const view = choices(VIEWS);
  const who = author();
  const keys = h("input", { type: "checkbox", checked: true });
  const pictures = h("input", { type: "text", spellcheck: false, placeholder: "/photos/{ref}.jpg", value: template(), "aria-describedby": "pictures-hint" });
  const status = h("p", { role: "status", tabIndex: -1 });
  const undo = h("button", { type: "button", "aria-keyshortcuts": "u", onclick: () => work(takeLastBack) }, h("kbd", {}, "U"), " Undo");
  const pile = h("div", { className: "reviews one" });
  const learn = learning("Learn from the examples", () => ({ examples: "verified" }), signal);
  const skipped = new Set();
  const done = []; // { answer, thing, kept }, the last one at the end
  let cards = [];
  let busy = false;

  // One piece of work at a time: what comes meanwhile is not done.
  async function work(piece) {
    if (busy) return;
    busy = true;
    await attempt(piece);
    busy = false;
    undo.disabled = !done.length;
  }

  function card(answer) {
    const made = reviewCard(answer, known, (name) => work(() => decide(made, name)));
    return made;
  }

  function redraw(words = "") {
    pile.className = `reviews ${view.value}`;
    const shown = view.value === "one" ? cards.slice(0, 1) : cards;
    pile.replaceChildren(...shown.length ? shown.map((one) => one.element) : [empty("Nothing is left to review. Answers that come from now on will be here.")]);
    status.textContent = `${words} ${many(cards.length, "answer")} to review.`.trim();
    undo.disabled = !done.length;
  }

  function fill(answers) {
    cards = answers.filter((answer) => !skipped.has(answer.id)).map(card);
  }

  async function refill() {
    const { answers } = await get(`/v1/queue?strategy=${order.value}&n=${ASKED}`, signal);
    await known.refresh();
    fill(answers);
  }

  // Leave a card for the one that follows, which gets the focus.
  async function leave(one, words) {
    const place = cards.indexOf(one);
    cards.splice(place, 1);
    if (!cards.length) await refill();
    redraw(words);
    (cards[Math.min(place, cards.length - 1)]?.element ?? status).focus();
  }

  async function decide(one, name) {
    if (name === null) {
      skipped.add(one.answer.id);
      await leave(one, "Skipped.");
      return;
    }
    const thing = { answer: one.answer.id };
    try {
      const kept = await persist(() => label(thing, { class: name, ...who.said() }), signal);
      done.push({ answer: one.answer, thing, kept });
      await leave(one, `${name} is kept.`);
    } catch (error) {
      if (!(error instanceof Refused) || concernsAll(error)) throw error;
      one.fault.textContent = error.message;
    }
  }

  async function takeLastBack() {
    const last = done.at(-1);
    if (!last) return;
    await persist(() => takeBack(last.thing, last.kept), signal);
    done.pop();
    cards.unshift(card(last.answer));
    redraw("The last one is taken back.");
    cards[0].element.focus();
  }

  function press(event) {
    if (!keys.checked || event.ctrlKey || event.metaKey || event.altKey || event.target.closest("input, select, textarea, dialog")) return;
    const focused = event.target.closest(".review");
    const one = cards.find(({ element }) => element === focused) ?? cards[0];
    const key = event.key.toLowerCase();
    if (key === "u") undo.click();
    else if (key === "s" && one) work(() => decide(one, null));
    else if (/^[1-5]$/.test(key) && one?.choices[key - 1] !== undefined) work(() => decide(one, one.choices[key - 1]));
    else return;
    event.preventDefault();
  }

  order.addEventListener("change", () => work(async () => {
    await refill();
    redraw();
  }));
  view.addEventListener("change", () => redraw());
  pictures.addEventListener("change", () => {
    pictures.setCustomValidity(keepTemplate(pictures.value.trim()));
    if (!pictures.reportValidity()) return;
    fill(cards.map(({ answer }) => answer));
    redraw();
  });
  addEventListener("keydown", press, { signal });
  fill(first.answers);
  content.replaceChildren(
    h("h2", {}, "Review"), known.list,
    h("p", { className: "quiet" }, "Say what each picture shows: those come first from which the next head learns most."),
    h("div", { className: "fields" }, h("label", {}, "First", order), h("label", {}, "Pictures", view), who.elements,
      h("label", { className: "check" }, keys, h("span", {}, "Keys 1 to 5, S and U"))),
    h("details", {}, h("summary", {}, "Where your pictures are"),
      h("label", {}, "Their address, with {ref} for the reference that came with the request", pictures),
      h("p", { id: "pictures-hint", className: "quiet" }, "Pictures of this server's own address are shown; others are a link that opens them.")),
    h("div", { className: "titled" }, status, undo), pile,
    h("h3", { className: "step" }, "A head that has learned from them"), learn.element,
  );
  redraw();
}
