// The lines of a server: named live heads on one backbone. Where there are several, a part of the console is about one.

import { getPages } from "./api.js";
import { h } from "./draw.js";

export const DEFAULT = "default"; // the line that answers requests that name none

// The lines that the key reaches, the default one first.
export async function allLines(signal) {
  return (await getPages("/v1/lines", "lines", Infinity, signal)).lines;
}

// A choice of a line, each with its live head; nothing where there is one.
export function lineChooser(lines, chosen, choose) {
  if (lines.length < 2) return null;
  const options = lines.map(({ name, head }) =>
    h("option", { value: name, selected: name === chosen }, `${name}: head ${head.version}`));
  return h("div", { className: "fields" }, h("label", {}, "Line", h("select", { onchange: (event) => choose(event.target.value) }, options)));
}
