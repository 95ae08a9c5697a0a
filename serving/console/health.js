// The numbers of /metrics, as they move.

import { Refused, get, send } from "./api.js";
import { NONE, count, h, lasting, line, many } from "./draw.js";
import { byLabel, grown, parse, quantile, sum } from "./metrics.js";
import { back, clear, concernsAll, tell } from "./trouble.js";

const EVERY = 2000; // ms between two polls
const FIRST = 500; // and between the first two
const KEPT = 60; // polls

const DURATION = "breadcrumbs_request_duration_seconds";
const PREDICTS = /^\/v1\/(predict|features)$|\/infer$/; // routes: event streams, uploads and probes take their own time
const milliseconds = (share) => (now, before) => {
  const found = quantile(now, before, DURATION, share, ({ route }) => PREDICTS.test(route));
  return found === null ? null : 1000 * found;
};

// Each has a name, the value of what lies between two polls (null: none), its unit, and a word more.
const TILES = [
  { name: "Requests", unit: "a second", value: (now, before, seconds) => grown(now, before, "breadcrumbs_requests_total") / seconds,
    more: (now) => `${count(sum(now, "breadcrumbs_requests_total"))} since the start` },
  { name: "Latency, median", unit: "ms", value: milliseconds(0.5), more: () => "of predictions, features and infer" },
  { name: "Latency, p99", unit: "ms", value: milliseconds(0.99), more: () => "of 100 of these one takes longer" },
  { name: "Batch size", unit: "images, mean", value: (now, before) => {
    const batches = grown(now, before, "breadcrumbs_batch_size_count");
    return batches ? grown(now, before, "breadcrumbs_batch_size_sum") / batches : null;
  }, more: (now) => `${many(sum(now, "breadcrumbs_batch_size_sum"), "image")} since the start` },
  { name: "Queue", unit: "images waiting", digits: 0, value: (now) => sum(now, "breadcrumbs_pending_requests"), more: () => "when last asked" },
  { name: "Refused or failed", unit: "a second", value: (now, before, seconds) => grown(now, before, "breadcrumbs_rejected_total") / seconds,
    more: (now, before) => byLabel(now, before, "breadcrumbs_rejected_total", "reason").map(([reason, n]) => `${reason} ${n}`).join(", ")
      || "clients' mistakes, overload, faults" },
];

function tile({ name, unit, digits = 1 }) {
  const value = h("b", {}, NONE);
  const more = h("p", { className: "quiet" }, "\u00a0");
  const { element, redraw } = line(0);
  const values = [];
  const card = h("div", { className: "card tile" }, h("h3", {}, name), h("p", {}, value, " ", h("span", { className: "quiet" }, unit)), element, more);
  return { card, draw(shown, words) {
    value.textContent = shown === null ? NONE : shown.toFixed(shown < 10 ? digits : 0);
    more.textContent = words;
    values.push(shown ?? 0);
    values.splice(0, values.length - KEPT);
    redraw(values);
  } };
}

// One sentence on whether it answers; a server that is not ready says why.
async function readiness(age, signal) {
  try {
    const { head, device, proved_seconds_ago: proved } = await get("/readyz", signal);
    const text = `Head ${head} on ${device}, live for ${lasting(age)}; an inference answered ${proved.toFixed(1)} s ago.`;
    return [h("span", { className: "chip good" }, "ready"), ` ${text}`];
  } catch (error) {
    if (!(error instanceof Refused) || error.status !== 503) throw error;
    return [h("span", { className: "chip bad" }, "not ready"), ` ${error.message}`];
  }
}

export async function show(content, signal) {
  const wait = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
  const state = h("p", { className: "state" });
  const tiles = TILES.map(tile);
  let before = null;
  let at = 0;

  async function poll() {
    const now = parse(await (await send("/metrics", { signal })).text());
    const seconds = (performance.now() - at) / 1000;
    at = performance.now();
    state.replaceChildren(...await readiness(sum(now, "breadcrumbs_head_age_seconds"), signal));
    if (before) TILES.forEach(({ value, more }, place) => tiles[place].draw(value(now, before, seconds), more(now, before)));
    before = now;
  }

  // One poll after the other, so that a slow one is not overtaken, until the part is left.
  async function watch() {
    for (let pause = FIRST; !signal.aborted; pause = EVERY) {
      await wait(pause);
      if (document.hidden) continue;
      try {
        await poll();
        clear();
      } catch (error) {
        if (signal.aborted) return;
        tell(error);
        if (concernsAll(error) && error.status !== 0) return; // a key, or a mistake of these scripts: no poll helps
        state.replaceChildren(h("span", { className: "chip bad" }, "no answer"), " The numbers are those of the last answer.");
        if (error instanceof Refused && error.status === 0) await back(signal).catch(() => {});
        before = null; // a server that began anew counts from nothing
      }
    }
  }

  await poll();
  content.replaceChildren(h("h2", {}, "Health"), state, h("div", { className: "tiles" }, tiles.map(({ card }) => card)),
    h("p", { className: "quiet" }, `From /metrics, every ${EVERY / 1000} s; the lines are the last ${(EVERY * KEPT) / 60000} minutes.`));
  watch();
}
