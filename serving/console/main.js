// Which part is shown. A part fills its place, and hears by a signal that it was left.

import { Refused } from "./api.js";
import * as classes from "./classes.js";
import { h, loading } from "./draw.js";
import * as health from "./health.js";
import * as heads from "./heads.js";
import * as refit from "./refit.js";
import * as review from "./review.js";
import { tellServed } from "./served.js";
import * as teach from "./teach.js";
import { clear, tell } from "./trouble.js";
import * as trial from "./try.js";

const PARTS = {
  "#try": ["Try it", trial], "#teach": ["Teach", teach], "#review": ["Review", review], "#classes": ["Classes", classes],
  "#heads": ["Heads", heads], "#refit": ["Refit", refit], "#health": ["Health", health],
};
const content = document.getElementById("content");
let left = new AbortController();

function failed(error) {
  const why = {
    0: "The server does not answer; this page goes on as soon as it does.",
    401: "Give a key above to see this.",
    403: "Another key may see this: give it above.",
  };
  const text = error instanceof Refused ? why[error.status] ?? error.message : "This could not be shown.";
  return h("div", { className: "empty" }, h("p", {}, text), h("button", { onclick: show }, "Try again"));
}

async function show() {
  left.abort(new DOMException("the part was left", "AbortError"));
  left = new AbortController();
  const { signal } = left;
  const name = location.hash in PARTS ? location.hash : "#try";
  const [title, part] = PARTS[name];
  document.title = `${title} – Breadcrumbs`;
  for (const link of document.querySelectorAll("nav a")) link.ariaCurrent = link.getAttribute("href") === name ? "page" : null;
  const place = h("div", {}, loading());
  content.replaceChildren(place);
  clear();
  tellServed();
  try {
    await part.show(place, signal);
  } catch (error) {
    if (signal.aborted) return;
    place.replaceChildren(failed(error));
    addEventListener("back", show, { once: true, signal });
    tell(error);
  }
}

document.querySelector(".skip").addEventListener("click", (event) => {
  event.preventDefault(); // its address would name a part that there is not
  content.focus();
});
addEventListener("hashchange", show);
addEventListener("key", show);
addEventListener("changed", tellServed);
await show();
