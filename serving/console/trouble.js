// What is said when something goes wrong, in one place above everything; and when a server that was gone is back.

import { Refused, get } from "./api.js";
import { openKey } from "./key.js";

const EVERY = 1000; // ms between two tries
const trouble = document.getElementById("trouble");
let waiting = false;

export function clear() {
  if (!waiting) trouble.hidden = true;
}

// Show an error. One that is no refusal is a bug of these scripts: fault.js says so, and the browser's log has it.
export function tell(error) {
  if (error.name === "AbortError") return; // whoever asked has left
  if (!(error instanceof Refused)) {
    reportError(error);
    return;
  }
  const words = error.status ? error.message : `${error.message} Trying again …`;
  if (trouble.hidden || trouble.textContent !== words) trouble.textContent = words; // the same words are read out once
  trouble.hidden = false;
  if ([401, 403].includes(error.status)) openKey();
  if (error.status === 0) watch();
}

// Whether an error is about more than the one thing that was asked for, so that it is told above everything.
export function concernsAll(error) {
  return !(error instanceof Refused) || [0, 401, 403].includes(error.status);
}

async function watch() {
  if (waiting) return;
  waiting = true;
  for (let gone = true; gone;) {
    await new Promise((resolve) => setTimeout(resolve, EVERY));
    gone = await get("/healthz").then(() => false, (error) => error.status === 0);
  }
  waiting = false;
  clear();
  dispatchEvent(new Event("back"));
}

// Resolves when the server is back.
export function back(signal) {
  return new Promise((resolve, reject) => {
    addEventListener("back", resolve, { once: true, signal });
    signal.addEventListener("abort", () => reject(signal.reason));
  });
}

// Do what somebody asked for, and show what goes wrong.
export async function attempt(work) {
  clear();
  try {
    return await work();
  } catch (error) {
    tell(error);
    return undefined;
  }
}
