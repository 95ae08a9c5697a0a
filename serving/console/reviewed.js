// One remembered answer to review: its picture if there is one, what the head said, and the class that a person says.

import { ago, h, percent } from "./draw.js";
import { classField } from "./labels.js";

const TEMPLATE = "breadcrumbs-pictures"; // the address of pictures, for this browser
const PLACE = "{ref}";

export function template() {
  return localStorage.getItem(TEMPLATE) ?? "";
}

// Keep an address with {ref} in it; what is wrong with it, or nothing.
export function keepTemplate(text) {
  const fault = text && !text.includes(PLACE) ? `Expected an address with ${PLACE} in it, as /photos/${PLACE}.jpg.` : "";
  if (!fault) localStorage.setItem(TEMPLATE, text);
  return fault;
}

// The address of the picture that a reference names, or null; only pages of the web are led to.
function address(ref) {
  if (!ref || !template()) return null;
  try {
    const url = new URL(template().replaceAll(PLACE, encodeURIComponent(ref)), document.baseURI);
    return ["http:", "https:"].includes(url.protocol) ? url : null;
  } catch {
    return null;
  }
}

function bytes(text) {
  return Uint8Array.from(atob(text), (one) => one.charCodeAt(0));
}

// A picture of a thumbnail, which is a JPEG in base64.
export function thumbnail(text, alt) {
  const image = h("img", { alt });
  image.addEventListener("load", () => URL.revokeObjectURL(image.src), { once: true });
  image.src = URL.createObjectURL(new Blob([bytes(text)], { type: "image/jpeg" }));
  return image;
}

function pictureOf(answer) {
  const alt = answer.ref ? `picture ${answer.ref}` : "the picture";
  if (answer.thumbnail) return thumbnail(answer.thumbnail, alt);
  const url = address(answer.ref);
  if (url === null) return h("span", { className: "blank quiet" }, "no picture kept");
  if (url.origin === location.origin) return h("img", { alt, loading: "lazy", src: url.href }); // of other places the policy lets none in
  return h("a", { className: "blank", href: url.href, target: "_blank", rel: "noopener noreferrer" }, "Open the picture");
}

// A card for an answer. `decide` hears the class that was chosen, or null for none.
export function reviewCard(answer, known, decide) {
  const name = answer.ref || `answer ${answer.id.slice(-6)}`;
  const buttons = answer.classes.map((one, place) => h("button", {
    type: "button", className: "choice", onclick: () => decide(one.class),
    ariaLabel: `${one.class}, ${percent(one.probability)}`, "aria-keyshortcuts": String(place + 1),
  }, h("kbd", {}, String(place + 1)), h("span", { className: "wide" }, one.class), h("span", { className: "number" }, percent(one.probability))));
  const other = classField("Another class", known);
  const keep = h("form", { className: "other", onsubmit: (event) => {
    event.preventDefault();
    if (other.name()) decide(other.name());
  } }, other.element, h("button", {}, "Keep"));
  const skip = h("button", { type: "button", onclick: () => decide(null), "aria-keyshortcuts": "s" }, h("kbd", {}, "S"), " Skip");
  const fault = h("p", { className: "bad", role: "alert" });
  const element = h("article", { className: "card review", tabIndex: -1, ariaLabel: name },
    pictureOf(answer),
    h("p", { className: "quiet" }, answer.ref ? `${answer.ref}, ` : "", ago(answer.at), `, head ${answer.head.version}`),
    h("div", { className: "choices" }, buttons), keep, h("p", { className: "acts" }, skip), fault);
  return { answer, element, other, fault, choices: answer.classes.map((one) => one.class) };
}
