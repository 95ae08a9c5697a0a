// The key: entered once, kept for this tab only, changed, forgotten. A new one is announced as the event `key`.

import { forgetKey, hasKey, useKey } from "./api.js";

const button = document.getElementById("key-button");
const form = document.getElementById("key");
const input = document.getElementById("secret");
const forget = document.getElementById("forget");

function draw(open) {
  form.hidden = !open;
  button.ariaExpanded = String(open);
  forget.hidden = !hasKey();
  button.textContent = hasKey() ? "Key: in use" : "Key";
  document.getElementById("key-state").textContent = hasKey()
    ? "A key is kept in this tab. Another one takes its place."
    : "For servers that ask for one. It is kept in this tab and nowhere else.";
}

export function openKey() {
  draw(true);
  input.focus();
}

button.addEventListener("click", () => (form.hidden ? openKey() : draw(false)));
form.addEventListener("keydown", (event) => {
  if (event.key !== "Escape") return;
  draw(false);
  button.focus();
});
form.addEventListener("submit", (event) => {
  event.preventDefault();
  useKey(input.value.trim());
  input.value = "";
  draw(false);
  dispatchEvent(new Event("key"));
});
forget.addEventListener("click", () => {
  forgetKey();
  draw(false);
  button.focus();
  dispatchEvent(new Event("key"));
});
draw(false);
