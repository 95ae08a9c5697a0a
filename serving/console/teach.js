// Photos of a class in, what the live head says of each, kept as examples; then a head that has learned from them.

import { Refused, get, predict } from "./api.js";
import { bars, dropZone, empty, h, loading, many } from "./draw.js";
import { author, classField, knownClasses, label, persist, takeBack } from "./labels.js";
import { learning } from "./learn.js";
import { KINDS, checkReadable, isPhoto, smallPicture, visible } from "./photos.js";
import { attempt, concernsAll } from "./trouble.js";

const SAID = 3; // classes that are shown of an answer
const NAMED = 10; // files that are no photos; more are counted

// Choosing a whole folder takes a field of its own.
function folderField(take) {
  const input = h("input", { type: "file", multiple: true, webkitdirectory: true, className: "unseen" });
  input.addEventListener("change", () => {
    take(visible([...input.files]));
    input.value = "";
  });
  return h("label", { className: "folder" }, input, "Choose a whole folder");
}

function draw(place, blob) {
  if (blob === null) return;
  const image = h("img", { alt: "" });
  image.addEventListener("load", () => URL.revokeObjectURL(image.src), { once: true });
  image.src = URL.createObjectURL(blob);
  place.replaceWith(image);
}

// A photo on the page: its picture, its name, what the head says of it, and what became of it.
function photoCard(file, remove) {
  const blank = h("span", { className: "blank", ariaHidden: "true" });
  const said = h("div", {}, loading("Waiting …"));
  const state = h("p", { className: "became", ariaLive: "polite" });
  const act = h("button", { type: "button", ariaLabel: `Leave out ${file.name}`, onclick: remove }, "Leave out");
  const element = h("figure", { className: "card answer" }, blank, h("figcaption", { title: file.name }, file.name),
    h("div", { className: "heads" }, said, h("div", { className: "titled" }, state, act)));
  return { element, blank, said, state, act };
}

function tellState(photo, words, kind = "") {
  photo.card.state.textContent = words;
  photo.card.state.className = `became ${kind}`;
}

async function look(photo, signal) {
  const { card, file } = photo;
  card.said.replaceChildren(loading("Asking …"));
  draw(card.blank, await smallPicture(file));
  try {
    const { predictions } = await persist(async () => {
      await checkReadable(file);
      return predict(file, "active", SAID);
    }, signal);
    photo.answer = predictions[0].id;
    card.said.replaceChildren(h("h3", {}, "The live head says"), bars(predictions[0].classes.map((one) => [one.class, one.probability])));
  } catch (error) {
    if (!(error instanceof Refused)) throw error;
    card.said.replaceChildren();
    photo.refused = !concernsAll(error);
    tellState(photo, error.message, "bad");
    if (concernsAll(error)) throw error;
  }
}

export async function show(content, signal) {
  const [{ takes }, known] = await Promise.all([get("/readyz", signal), knownClasses(signal)]);
  if (takes && !takes.includes("images")) {
    content.replaceChildren(h("h2", {}, "Teach"), empty("This server takes features and no photos, so it is taught by programs: see POST /v1/labels in its API."));
    return;
  }
  const photos = [];
  let busy = false;
  const field = classField("Class of all these photos", known, change);
  const who = author();
  const cards = h("div", { className: "answers" });
  const others = h("div", { role: "alert" });
  const progress = h("p", { role: "status" });
  const store = h("button", { type: "button", className: "main", onclick: () => work(keepAll) });
  const leave = h("button", { type: "button", onclick: clear }, "Clear the page");
  const nothing = empty("No photo yet. What the live head says of each comes here.");
  const learn = learning("Learn from the examples", () => ({ examples: "verified" }), signal, relearn);

  const waiting = () => photos.filter((photo) => !photo.kept && !photo.refused);

  function change() {
    const count = waiting().length;
    const name = field.name();
    store.textContent = count ? `Store ${many(count, "photo")}${name ? ` as ${name}` : ""}` : "Store the photos";
    store.disabled = busy || !count || !name;
    leave.disabled = busy || !photos.length;
    nothing.hidden = photos.length > 0;
    for (const photo of photos) photo.card.act.disabled = busy;
  }

  // One piece of work at a time; the buttons wait for it.
  async function work(piece) {
    if (busy) return;
    busy = true;
    change();
    const done = await attempt(piece);
    busy = false;
    change();
    if (done && photos.some((photo) => !photo.seen)) await work(lookAtAll); // came meanwhile
  }

  async function relearn() {
    await known.refresh();
    field.redraw();
  }

  function remove(photo) {
    photos.splice(photos.indexOf(photo), 1);
    photo.card.element.remove();
    change();
  }

  function clear() {
    for (const photo of photos.splice(0)) photo.card.element.remove();
    others.replaceChildren();
    progress.textContent = "";
    change();
  }

  function take(files) {
    const odd = files.filter((file) => !isPhoto(file)).map((file) => file.name);
    if (odd.length) {
      const more = odd.length > NAMED ? ` and ${odd.length - NAMED} more` : "";
      others.append(h("p", { className: "bad" }, `Left out, for want of a JPEG, PNG or WebP photo: ${odd.slice(0, NAMED).join(", ")}${more}.`));
    }
    for (const file of files.filter(isPhoto)) {
      const photo = { file, kept: null, refused: false, seen: false };
      photo.card = photoCard(file, () => remove(photo));
      photos.push(photo);
      cards.append(photo.card.element);
    }
    change();
    work(lookAtAll);
  }

  async function lookAtAll() {
    for (let place = 0; place < photos.length; place += 1) { // more may come meanwhile
      if (photos[place].seen) continue;
      signal.throwIfAborted();
      photos[place].seen = true;
      progress.textContent = `Asking about ${place + 1} of ${photos.length}`;
      await look(photos[place], signal);
    }
    const bad = photos.filter((photo) => photo.refused).length;
    progress.textContent = `${many(waiting().length, "photo")} to store.${bad ? ` ${many(bad, "file")} cannot be used: the reason is beside ${bad === 1 ? "it" : "each"}.` : ""}`;
    return true;
  }

  async function keep(photo, said) {
    try {
      photo.kept = await persist(() => label(photo, said), signal);
    } catch (error) {
      if (concernsAll(error)) throw error;
      tellState(photo, error.message, "bad");
      return;
    }
    tellState(photo, photo.kept.change === "same" ? `Stored as ${said.class} already` : `Stored as ${said.class}`, "good");
    photo.card.act.replaceWith(photo.card.act = photo.kept.change === "same" ? h("span") : h("button", {
      type: "button", ariaLabel: `Take back ${photo.file.name}`, onclick: () => work(() => undo(photo)) }, "Take back"));
  }

  async function keepAll() {
    const said = { class: field.name(), ...who.said() };
    const all = waiting();
    for (const [place, photo] of all.entries()) {
      signal.throwIfAborted();
      progress.textContent = `Storing ${place + 1} of ${all.length}`;
      await keep(photo, said);
    }
    const kept = all.filter((photo) => photo.kept).length;
    progress.textContent = `${many(kept, "photo")} of ${all.length} stored as ${said.class}.${said.verified ? "" : " Nobody is sure of them, so they are not learned from."}`;
    await relearn();
    return true;
  }

  async function undo(photo) {
    await takeBack(photo, photo.kept);
    photo.kept = null;
    tellState(photo, "Taken back: it is not stored as that any more.");
    photo.card.act.replaceWith(photo.card.act = h("button", {
      type: "button", ariaLabel: `Leave out ${photo.file.name}`, onclick: () => remove(photo) }, "Leave out"));
    photo.card.act.focus();
    await relearn();
    return true;
  }

  addEventListener("paste", (event) => {
    if (event.clipboardData.files.length) take([...event.clipboardData.files]);
  }, { signal });
  content.replaceChildren(
    h("h2", {}, "Teach"), known.list,
    h("p", { className: "quiet" }, "Show photos of a class, say which class it is, store them, and let a new head learn from them."),
    h("h3", { className: "step" }, "1. Photos"),
    dropZone("Drop photos or a folder, paste one, or choose photos", "JPEG, PNG or WebP", KINDS.join(","), take, signal),
    folderField(take), others,
    h("h3", { className: "step" }, "2. Their class"),
    h("div", { className: "fields" }, field.element, who.elements),
    h("p", { className: "acts" }, store, leave), progress, nothing, cards,
    h("h3", { className: "step" }, "3. A head that has learned from them"), learn.element,
  );
  change();
}
