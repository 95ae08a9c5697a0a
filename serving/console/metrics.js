// What /metrics says: its text as samples, and what two answers say of the time between them.

const SAMPLE = /^([a-zA-Z_:][\w:]*)(?:\{((?:[^"}]|"(?:[^"\\]|\\.)*")*)\})?\s+(\S+)/;
const LABEL = /([a-zA-Z_]\w*)\s*=\s*"((?:[^"\\]|\\.)*)"/g;
const NUMBERS = { NaN, "+Inf": Infinity, "-Inf": -Infinity };

// Every sample by its name and labels as they are written; a label's value may hold braces, commas and escaped quotes.
export function parse(text) {
  const samples = new Map();
  for (const row of text.split("\n")) {
    const found = SAMPLE.exec(row);
    if (!found) continue;
    const [, name, labels = "", value] = found;
    const read = Object.fromEntries([...labels.matchAll(LABEL)].map(([, label, raw]) => [label, unescaped(raw)]));
    samples.set(`${name}{${labels}}`, { name, labels: read, value: NUMBERS[value] ?? Number(value) });
  }
  return samples;
}

function unescaped(raw) {
  return raw.replace(/\\(.)/g, (_, letter) => (letter === "n" ? "\n" : letter));
}

// The samples of a name whose labels pass, each with how much it grew since before.
function* growth(now, before, name, passes = () => true) {
  for (const [key, sample] of now) {
    if (sample.name === name && passes(sample.labels)) {
      yield { labels: sample.labels, more: sample.value - (before.get(key)?.value ?? 0) };
    }
  }
}

export function sum(samples, name) {
  return grown(samples, new Map(), name);
}

export function grown(now, before, name) {
  let whole = 0;
  for (const { more } of growth(now, before, name)) whole += more;
  return whole;
}

// By how much each value of a label grew; those that did not are left out.
export function byLabel(now, before, name, label) {
  const found = new Map();
  for (const { labels, more } of growth(now, before, name)) {
    if (more > 0) found.set(labels[label], (found.get(labels[label]) ?? 0) + more);
  }
  return [...found];
}

// The value below which a share of a histogram's new observations lies, by its buckets; null where there are none.
export function quantile(now, before, name, share, passes) {
  const ends = new Map();
  for (const { labels, more } of growth(now, before, `${name}_bucket`, passes)) {
    const end = NUMBERS[labels.le] ?? Number(labels.le);
    ends.set(end, (ends.get(end) ?? 0) + more);
  }
  const buckets = [...ends].sort((a, b) => a[0] - b[0]);
  const all = buckets.at(-1)?.[1] ?? 0;
  if (!all) return null;
  const place = buckets.findIndex((bucket) => bucket[1] >= share * all);
  const [low, below] = place ? buckets[place - 1] : [0, 0];
  const [high, upTo] = buckets[place];
  if (high === Infinity) return low;
  return low + ((high - low) * (share * all - below)) / Math.max(1, upTo - below);
}
