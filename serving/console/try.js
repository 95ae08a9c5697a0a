// Images in, classes out; two heads side by side on the same image.

import { get, predict, send } from "./api.js";
import { bars, dropZone, empty, h, loading } from "./draw.js";
import { attempt, concernsAll, tell } from "./trouble.js";

const KINDS = ["image/jpeg", "image/png", "image/webp"];
const KEPT = 24; // cards; older ones go
const SMALL = 128; // pixels: below this they are shown as they are

// An image that is loaded needs its address no more.
function picture(blob, alt) {
  const image = h("img", { alt });
  image.addEventListener("load", () => {
    image.classList.toggle("small", image.naturalWidth < SMALL);
    URL.revokeObjectURL(image.src);
  });
  image.addEventListener("error", () => {
    URL.revokeObjectURL(image.src);
    image.removeAttribute("src"); // nothing looks better than a broken image
  });
  image.src = URL.createObjectURL(blob);
  return image;
}

function took(milliseconds) {
  return `${milliseconds.toFixed(1)}\u00a0ms`;
}

function answer({ head, predictions, timing, batch_size: size }, place) {
  return h("section", {}, h("h3", {}, `Head ${head.version}`),
    bars(predictions[0].classes.map((one) => [one.class, one.probability, place ? "second" : ""])),
    h("p", { className: "quiet timing" }, [`decode ${took(timing.decode_ms)}`, `wait ${took(timing.queue_ms)}`,
      `compute ${took(timing.compute_ms)}`, `batch of\u00a0${size}`].join(", ")));
}

function chooser(list, first) {
  const options = list.heads.map((head) => h("option", { value: head.version },
    `head ${head.version}${head.version === list.live ? ", live" : ""}`));
  return h("select", {}, h("option", { value: first.value }, first.text), options);
}

async function sampleButton(sample, ask, signal) {
  const blob = await (await send(`/v1/samples/${sample.name}`, { signal })).blob();
  const image = new File([blob], `sample: ${sample.class}`, { type: "image/png" });
  return h("button", { ariaLabel: image.name, onclick: () => ask([image]) }, picture(blob, ""), h("span", {}, sample.class));
}

export async function show(content, signal) {
  const [list, { samples }] = await Promise.all([get("/v1/heads", signal), get("/v1/samples", signal)]);
  if (!list.heads.some((head) => head.version === list.live)) list.heads.push({ version: list.live }); // on a later page
  const one = chooser(list, { value: "active", text: "the live one" });
  const other = chooser(list, { value: "", text: "no other" });
  const answers = h("div", { className: "answers", ariaLive: "polite" });
  const nothing = empty("No image yet. Its most probable classes come here, with the head that answered and the time it took.");
  const shown = []; // [image, its card], the newest first

  // Fill a card with what the chosen heads say of its image, or with why they say nothing.
  async function fill(image, card) {
    card.lastChild.replaceChildren(loading("Asking …"));
    try {
      const wanted = [one.value, other.value].filter(Boolean);
      const found = await Promise.all(wanted.map((head) => predict(image, head)));
      card.classList.toggle("two", found.length > 1);
      card.lastChild.replaceChildren(...found.map(answer));
    } catch (error) {
      card.lastChild.replaceChildren(h("p", { className: "bad", role: "alert" }, error.message));
      if (concernsAll(error)) tell(error);
    }
  }

  async function ask(images) {
    for (const image of images) {
      const caption = h("figcaption", { title: image.name }, image.name);
      const card = h("figure", { className: "card answer" }, picture(image, ""), caption, h("div", { className: "heads" }));
      shown.unshift([image, card]);
      answers.prepend(card);
      for (const [, old] of shown.splice(KEPT)) old.remove();
      nothing.remove();
      await attempt(() => fill(image, card));
    }
  }

  const again = () => Promise.all(shown.map(([image, card]) => fill(image, card)));
  for (const chosen of [one, other]) chosen.addEventListener("change", () => attempt(again));
  addEventListener("paste", (event) => ask([...event.clipboardData.files]), { signal });
  const gallery = await Promise.all(samples.map((sample) => sampleButton(sample, ask, signal)));
  content.replaceChildren(
    h("h2", {}, "Try it"),
    h("div", { className: "columns" },
      dropZone("Drop images, paste one, or choose files", "JPEG, PNG or WebP", KINDS.join(","), ask, signal),
      h("section", {}, h("h3", {}, "or take a sample"),
        gallery.length ? h("div", { className: "samples" }, gallery) : empty("This bundle carries no samples."))),
    h("div", { className: "fields" }, h("label", {}, "Head", one), h("label", {}, "Compare with", other)),
    answers, nothing,
  );
}
