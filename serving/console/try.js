// Images in, classes out; two heads side by side on the same image.

import { get, predict, send } from "/console/api.js";
import { bars, dropZone, h } from "/console/draw.js";
import { attempt } from "/console/main.js";

const KINDS = ["image/jpeg", "image/png", "image/webp"];

function answerCard(image, answers) {
  const parts = answers.map(({ head, predictions, timing, batch_size: size }, place) => [
    h("h3", {}, `Head ${head.version}`),
    bars(predictions[0].classes.map((one) => [one.class, one.probability, place ? "second" : ""])),
    h("p", { className: "quiet" }, `decoded in ${timing.decode_ms.toFixed(1)} ms, computed in ${timing.compute_ms.toFixed(1)} ms, `
      + `waited ${timing.queue_ms.toFixed(1)} ms, batch of ${size}`),
  ]);
  const url = URL.createObjectURL(image);
  return h("figure", { className: "card answer" }, h("img", { src: url, alt: image.name ?? "your image" }), parts);
}

function chooser(list, label, first) {
  const options = list.heads.map((head) => h("option", { value: head.version },
    `${head.version}${head.version === list.live ? ", live" : ""}`));
  return h("select", { ariaLabel: label }, h("option", { value: first.value }, first.text), options);
}

export async function show(content) {
  const [list, { samples }] = await Promise.all([get("/v1/heads"), get("/v1/samples")]);
  const one = chooser(list, "Head", { value: "active", text: "the live one" });
  const other = chooser(list, "Compare with", { value: "", text: "nothing" });
  const answers = h("div", { className: "answers", ariaLive: "polite" });
  const empty = h("p", { className: "quiet" }, "Nothing asked yet.");

  async function ask(images) {
    for (const image of images) {
      await attempt(async () => {
        const wanted = [one.value, other.value].filter(Boolean);
        const found = await Promise.all(wanted.map((head) => predict(image, head)));
        empty.remove();
        answers.prepend(answerCard(image, found));
      });
    }
  }

  const zone = dropZone("Drop images here, paste one, or press Enter to choose: JPEG, PNG, WebP", KINDS.join(","), ask);
  const paste = (event) => ask([...event.clipboardData.files]);
  addEventListener("paste", paste);
  const gallery = await Promise.all(samples.map(async (sample) => {
    const blob = await (await send(`/v1/samples/${sample.name}`)).blob();
    const image = new File([blob], sample.class, { type: "image/png" });
    const picture = h("img", { src: URL.createObjectURL(blob), alt: `sample: ${sample.class}` });
    return h("button", { title: sample.class, onclick: () => ask([image]) }, picture);
  }));
  content.replaceChildren(
    h("h2", {}, "Try it"), zone,
    gallery.length ? h("div", { className: "samples" }, gallery) : h("p", { className: "quiet" }, "This bundle carries no samples."),
    h("div", { className: "fields" }, h("label", {}, "Head", one), h("label", {}, "Compare with", other)),
    empty, answers,
  );
  return () => removeEventListener("paste", paste);
}
