// The numbers of /metrics, as they move.

import { get, send } from "/console/api.js";
import { h, line } from "/console/draw.js";
import { attempt } from "/console/main.js";

const EVERY = 2000;
const KEPT = 60;

function parse(text) {
  const numbers = new Map();
  for (const row of text.split("\n")) {
    const found = /^([a-z_]+)(?:\{([^}]*)\})? ([-+0-9.eInf]+)$/.exec(row);
    if (found) numbers.set(`${found[1]}{${found[2] ?? ""}}`, Number(found[3]));
  }
  return numbers;
}

function sum(numbers, name) {
  let whole = 0;
  for (const [key, value] of numbers) if (key.startsWith(`${name}{`)) whole += value;
  return whole;
}

// The value below which a share of a histogram's new observations lies, by its buckets.
function quantile(now, before, name, share) {
  const buckets = [];
  for (const [key, value] of now) {
    const found = new RegExp(`^${name}_bucket\\{le="([^"]+)"\\}$`).exec(key);
    if (found) buckets.push([found[1] === "+Inf" ? Infinity : Number(found[1]), value - (before.get(key) ?? 0)]);
  }
  buckets.sort((a, b) => a[0] - b[0]);
  const all = buckets.at(-1)?.[1] ?? 0;
  if (!all) return null;
  const place = buckets.findIndex((bucket) => bucket[1] >= share * all);
  const [low, below] = place ? buckets[place - 1] : [0, 0];
  const [high, upTo] = buckets[place];
  if (high === Infinity) return low;
  return low + ((high - low) * (share * all - below)) / Math.max(1, upTo - below);
}

const TILES = [
  ["Requests a second", (now, before, seconds) => (sum(now, "breadcrumbs_requests_total") - sum(before, "breadcrumbs_requests_total")) / seconds, ""],
  ["Latency, median", (now, before) => 1000 * (quantile(now, before, "breadcrumbs_request_duration_seconds", 0.5) ?? 0), "ms"],
  ["Latency, p99", (now, before) => 1000 * (quantile(now, before, "breadcrumbs_request_duration_seconds", 0.99) ?? 0), "ms"],
  ["Images in a batch, mean", (now, before) => {
    const [total, batches] = ["sum", "count"].map((part) => sum(now, `breadcrumbs_batch_size_${part}`) - sum(before, `breadcrumbs_batch_size_${part}`));
    return batches ? total / batches : 0;
  }, ""],
  ["Images waiting", (now) => sum(now, "breadcrumbs_pending_requests"), ""],
  ["Errors a second", (now, before, seconds) => (sum(now, "breadcrumbs_rejected_total") - sum(before, "breadcrumbs_rejected_total")) / seconds, ""],
  ["Age of the live head", (now) => sum(now, "breadcrumbs_head_age_seconds") / 60, "min"],
];

export async function show(content) {
  const tiles = h("div", { className: "tiles" });
  const state = h("p", { ariaLive: "polite" });
  const lines = TILES.map(() => []);
  let before = parse(await (await send("/metrics")).text());
  let at = performance.now();

  async function look() {
    const now = parse(await (await send("/metrics")).text());
    const seconds = (performance.now() - at) / 1000;
    at = performance.now();
    const ready = await get("/readyz");
    state.textContent = `Head ${ready.head} on ${ready.device}; an inference answered ${ready.proved_seconds_ago.toFixed(1)} s ago.`;
    tiles.replaceChildren(...TILES.map(([name, value, unit], place) => {
      lines[place].push(value(now, before, seconds));
      lines[place].splice(0, lines[place].length - KEPT);
      const shown = lines[place].at(-1);
      return h("div", { className: "card tile" }, name, h("b", {}, `${shown.toFixed(shown < 10 ? 1 : 0)} ${unit}`), line(lines[place]));
    }));
    before = now;
  }

  content.replaceChildren(h("h2", {}, "Health"), state, tiles);
  await new Promise((resolve) => setTimeout(resolve, 300));
  await look();
  const timer = setInterval(() => attempt(look), EVERY);
  return () => clearInterval(timer);
}
