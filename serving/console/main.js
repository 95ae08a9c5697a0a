// Which part is shown, the key, and what is said when something goes wrong.

import { Refused, get, useKey } from "/console/api.js";
import { h } from "/console/draw.js";
import * as health from "/console/health.js";
import * as heads from "/console/heads.js";
import * as refit from "/console/refit.js";
import * as trial from "/console/try.js";

const PARTS = { "#try": trial, "#heads": heads, "#refit": refit, "#health": health };
const content = document.getElementById("content");
const trouble = document.getElementById("trouble");
const keyForm = document.getElementById("key");
let leave = () => {};
let waiting = null;

// Show an error where everybody sees it; a server that is gone is asked again until it is back.
export function tell(error) {
  if (!(error instanceof Refused)) throw error;
  trouble.hidden = false;
  trouble.textContent = error.message;
  if (error.status === 401) {
    keyForm.hidden = false;
    document.getElementById("secret").focus();
  }
  if (error.status === 0 && waiting === null) {
    trouble.textContent = `${error.message} Trying again …`;
    waiting = setInterval(async () => {
      try {
        await get("/healthz");
      } catch {
        return;
      }
      clearInterval(waiting);
      waiting = null;
      await show();
    }, 1000);
  }
}

export function clear() {
  trouble.hidden = true;
}

export async function attempt(work) {
  try {
    clear();
    return await work();
  } catch (error) {
    tell(error);
    return undefined;
  }
}

async function show() {
  const name = location.hash in PARTS ? location.hash : "#try";
  for (const link of document.querySelectorAll("nav a")) {
    if (link.getAttribute("href") === name) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  leave();
  leave = () => {};
  content.replaceChildren(h("p", { className: "quiet" }, "Loading …"));
  await attempt(async () => {
    leave = (await PARTS[name].show(content)) ?? (() => {});
  });
}

keyForm.addEventListener("submit", async (event) => {
  event.preventDefault();
  useKey(document.getElementById("secret").value);
  document.getElementById("secret").value = "";
  keyForm.hidden = true;
  await show();
});
addEventListener("hashchange", show);
await show();
