// What /metrics says: its text as numbers, and what two looks at it say of the time between them.

export function parse(text) {
  const numbers = new Map();
  for (const row of text.split("\n")) {
    const found = /^([a-z_]+)(?:\{([^}]*)\})? ([-+0-9.eInf]+)$/.exec(row);
    if (found) numbers.set(`${found[1]}{${found[2] ?? ""}}`, Number(found[3]));
  }
  return numbers;
}

export function sum(numbers, name) {
  let whole = 0;
  for (const [key, value] of numbers) if (key.startsWith(`${name}{`)) whole += value;
  return whole;
}

export function grown(now, before, name) {
  return sum(now, name) - sum(before, name);
}

// By how much each value of a label grew; those that did not are left out.
export function byLabel(now, before, name, label) {
  const found = [];
  for (const [key, value] of now) {
    const more = value - (before.get(key) ?? 0);
    if (key.startsWith(`${name}{`) && more > 0) found.push([new RegExp(`${label}="([^"]*)"`).exec(key)[1], more]);
  }
  return found;
}

// The value below which a share of a histogram's new observations lies, by its buckets; null where there are none.
export function quantile(now, before, name, share) {
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
