// Images in, classes out; two heads side by side on the same image.

import { get, getPages, send } from "./api.js";
import { answersOf, together } from "./asking.js";
import { bars, dropZone, empty, h, loading, many, percent } from "./draw.js";
import { DEFAULT, allLines } from "./lines.js";
import { KINDS, smallPicture } from "./photos.js";
import { concernsAll, tell } from "./trouble.js";

const MOST = 200; // images on the page; more are named, and not asked about
const NAMED = 5; // of those; more are counted
const SMALL = 128; // pixels: below this they are shown as they are
const TOP = 5; // classes of an answer
const NEAREST = 3; // stored images that an answer is like
const LINE = "line "; // before a line's name, where a head's number can be

// An image that is loaded needs its address no more.
function picture(blob) {
  const image = h("img", { alt: "" });
  image.addEventListener("load", () => {
    image.classList.toggle("small", image.naturalWidth < SMALL);
    URL.revokeObjectURL(image.src);
  });
  image.src = URL.createObjectURL(blob);
  return image;
}

// An image on the page, and below it what each head says.
function imageCard(image) {
  const blank = h("span", { className: "blank", ariaHidden: "true" });
  const heads = h("div", { className: "heads" });
  smallPicture(image).then((small) => small && blank.replaceWith(picture(small)));
  return { element: h("figure", { className: "card answer" }, blank, h("figcaption", {}, image.name), heads), heads };
}

function took(milliseconds) {
  return `${milliseconds.toFixed(1)}\u00a0ms`;
}

function surest(node) {
  if (node === undefined) return null;
  return h("p", { className: "quiet" }, node ? `Sure of: ${node.name} (${node.rank}), ${percent(node.probability)}` : "Not sure of any group.");
}

// How near the image is to what the head was fitted to; nothing where that was not asked.
function likeness({ known, nearest }) {
  const words = known === undefined || known === null ? null
    : h("p", { className: "quiet" }, `Of the stored images of its group, ${percent(known)} are no nearer to another one than this is to its nearest.`);
  const rows = nearest?.map((one) => h("li", {}, h("span", { className: "name" }, one.class), ` at ${one.distance.toFixed(3)}, ${origin(one)}`));
  return [words, rows ? h("div", { className: "quiet near" }, "Most like:", rows.length ? h("ol", {}, rows) : " no stored image that you may see.") : null];
}

function origin({ source, ref, by, example, row, image }) {
  const number = image ?? row;
  if (source === "example") return `example ${ref ?? example}${by ? ` by ${by}` : ""}`;
  return `${source === "bundle" ? "the model’s own" : "an uploaded"} image ${number}`;
}

// What an image's heads say, side by side; where the image itself is refused, that is said once.
function sayings(found) {
  const refused = found.find((one) => one instanceof Error);
  return refused ? [h("p", { className: "bad", role: "alert" }, refused.message)] : found.map(answer);
}

function answer(found, place) {
  const { head, prediction, timing, batch_size: size } = found;
  return h("section", {}, h("h3", {}, `Head ${head.version}`),
    bars(prediction.classes.map((one) => [one.class, one.probability, place ? "second" : ""])), surest(prediction.node), likeness(prediction),
    h("p", { className: "quiet timing" }, [`decode ${took(timing.decode_ms)}`, `wait ${took(timing.queue_ms)}`,
      `compute ${took(timing.compute_ms)}`, `batch of\u00a0${size}`].join(", ")));
}

// A head, or the live one of a named line.
function chooser(list, lines, first) {
  const options = list.heads.map((head) => h("option", { value: head.version },
    `head ${head.version}${head.version === list.live ? ", live" : ""}`));
  const named = lines.filter(({ name }) => name !== DEFAULT).map(({ name, head }) =>
    h("option", { value: LINE + name }, `line ${name}: head ${head.version}`));
  return h("select", {}, h("option", { value: first.value }, first.text), options, named);
}

function asked(value) {
  return value.startsWith(LINE) ? { line: value.slice(LINE.length) } : { head: value };
}

// Which classes can be there: all, or those of a prior that is stored.
function priorChooser(priors) {
  const options = priors.map(({ name, count }) => h("option", { value: name }, `${name}: ${many(count, "class", "classes")}`));
  return h("select", {}, h("option", { value: "" }, "every class"), options);
}

async function sampleButton(sample, ask, signal) {
  const blob = await (await send(`/v1/samples/${sample.name}`, { signal })).blob();
  const image = new File([blob], `sample: ${sample.class}`, { type: "image/png" });
  return h("button", { ariaLabel: image.name, onclick: () => ask([image]) }, picture(blob), h("span", {}, sample.class));
}

function leftOut(images) {
  const names = images.slice(0, NAMED).map((image) => image.name).join(", ");
  const more = images.length > NAMED ? ` and ${images.length - NAMED} more` : "";
  return h("p", { className: "bad" }, `${MOST} images are the most on this page. Left out: ${names}${more}. Clear the page to go on with them.`);
}

// The images on the page, and one piece of work at a time that asks about those that have no answer yet.
function desk(conditions) {
  const answers = h("div", { className: "answers" });
  const status = h("p", { role: "status" });
  const others = h("div", { role: "alert" });
  const nothing = empty("No image yet. Its most probable classes come here, with the head that answered and the time it took.");
  const clear = h("button", { type: "button", hidden: true, onclick: empties }, "Clear the page");
  let shown = []; // { image, card, done }, those that came last first
  let working = false;

  function redraw() {
    const done = shown.filter((one) => one.done).length;
    status.textContent = shown.length ? `${done} of ${many(shown.length, "image")} answered.` : "";
    clear.hidden = !shown.length;
    if (shown.length) nothing.remove();
    else answers.after(nothing);
  }

  function empties() {
    for (const { card } of shown) card.element.remove();
    shown = [];
    others.replaceChildren();
    redraw();
  }

  function write(some, words) {
    for (const [place, one] of some.entries()) {
      one.card.element.classList.toggle("two", words[place].length > 1);
      one.card.heads.replaceChildren(...sayings(words[place]));
    }
  }

  // Ask about the first that wait; an answer to conditions that were changed meanwhile is thrown away.
  async function step() {
    const wanted = conditions();
    const waiting = shown.filter((one) => !one.done);
    const some = waiting.slice(0, together(waiting.map((one) => one.image)).length);
    const found = await Promise.all(wanted.map((one) => answersOf(some.map(({ image }) => image), one)));
    if (JSON.stringify(wanted) !== JSON.stringify(conditions())) return;
    write(some, some.map((_, place) => found.map((answers) => answers[place])));
    for (const one of some) one.done = true;
  }

  async function work() {
    if (working) return;
    working = true;
    try {
      while (shown.some((one) => !one.done)) {
        await step();
        redraw();
      }
    } catch (error) { // about all of them: a key, a server that is gone
      const waiting = shown.filter((one) => !one.done);
      write(waiting, waiting.map(() => [error]));
      if (concernsAll(error)) tell(error);
    } finally {
      working = false;
    }
  }

  function ask(images) {
    const room = images.slice(0, MOST - shown.length);
    if (room.length < images.length) others.append(leftOut(images.slice(room.length)));
    const fresh = room.map((image) => ({ image, card: imageCard(image), done: false }));
    for (const { card } of fresh) card.heads.replaceChildren(loading("Asking …"));
    shown = [...fresh, ...shown];
    answers.prepend(...fresh.map(({ card }) => card.element));
    redraw();
    return work();
  }

  function again() {
    for (const one of shown) one.done = false;
    return work();
  }

  redraw();
  return { ask, again, work, elements: [h("div", { className: "titled" }, status, clear), others, answers, nothing] };
}

export async function show(content, signal) {
  const [list, lines, { samples }, { priors }] = await Promise.all([get("/v1/heads", signal), allLines(signal),
    get("/v1/samples", signal), getPages("/v1/priors", "priors", Infinity, signal)]);
  if (!list.heads.some((head) => head.version === list.live)) list.heads.push({ version: list.live }); // on a later page
  const one = chooser(list, lines, { value: "active", text: "the live one" });
  const other = chooser(list, lines, { value: "", text: "no other" });
  const prior = priorChooser(priors);
  const known = h("input", { type: "checkbox" });
  const nearest = h("input", { type: "checkbox" });
  const more = () => ({ ...(prior.value && { prior: prior.value }), ...(known.checked && { known: true }), ...(nearest.checked && { explain: NEAREST }) });
  const heads = () => [one.value, other.value].filter(Boolean);
  const { ask, again, work, elements } = desk(() => heads().map((head) => ({ ...asked(head), top_k: TOP, ...more() })));
  for (const chosen of [one, other, prior, known, nearest]) chosen.addEventListener("change", again);
  addEventListener("back", work, { signal });
  addEventListener("paste", (event) => ask([...event.clipboardData.files]), { signal });
  const gallery = await Promise.all(samples.map((sample) => sampleButton(sample, ask, signal)));
  content.replaceChildren(
    h("h2", {}, "Try it"),
    h("div", { className: "columns" },
      dropZone("Drop images, paste one, or choose files", "JPEG, PNG or WebP", KINDS.join(","), ask, signal),
      h("section", {}, h("h3", {}, "or take a sample"),
        gallery.length ? h("div", { className: "samples" }, gallery) : empty("This bundle carries no samples."))),
    h("div", { className: "fields" }, h("label", {}, "Head", one), h("label", {}, "Compare with", other),
      priors.length ? h("label", {}, "What can be there", prior) : null),
    h("div", { className: "checks" }, h("label", { className: "check" }, known, "How near it is to what was learned"),
      h("label", { className: "check" }, nearest, `The ${NEAREST} stored images that it is most like`)),
    ...elements,
  );
}
