// Elements and numbers. Text is always text: nothing that the server says becomes markup.

export function h(name, attributes = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
    else if (key in element && key !== "list") element[key] = value;
    else element.setAttribute(key, value);
  }
  element.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined));
  return element;
}

export function percent(value, digits = 1) {
  return typeof value === "number" ? (100 * value).toFixed(digits) : "–";
}

export function count(value) {
  return new Intl.NumberFormat("en").format(value);
}

export function ago(iso) {
  const seconds = Math.max(0, (Date.now() - Date.parse(iso)) / 1000);
  for (const [unit, size] of [["day", 86400], ["hour", 3600], ["minute", 60]]) {
    const whole = Math.floor(seconds / size);
    if (whole) return `${whole} ${unit}${whole > 1 ? "s" : ""} ago`;
  }
  return "just now";
}

// Bars of [name, share, more classes for the fill].
export function bars(rows) {
  const parts = rows.flatMap(([name, value, kind = ""]) => {
    const fill = h("div", { className: `fill ${kind}` });
    fill.style.width = `${100 * Math.min(1, Math.max(0, value))}%`;
    return [
      h("dt", { title: name }, name), h("dd", { className: "track", ariaHidden: "true" }, fill),
      h("dd", { className: "number" }, percent(value)),
    ];
  });
  return h("dl", { className: "bars" }, parts);
}

export function table(head, rows) {
  const cell = (name) => (value) => (value instanceof HTMLTableCellElement ? value : h(name, {}, value));
  const titles = head.map((title) => (title.startsWith("#") ? h("th", { className: "number", scope: "col" }, title.slice(1))
    : h("th", { scope: "col" }, title)));
  return h("div", { className: "scroll", tabIndex: 0 }, h("table", {}, h("thead", {}, h("tr", {}, titles)),
    h("tbody", {}, rows.map(({ live, cells }) => h("tr", { className: live ? "live" : "" }, cells.map(cell("td")))))));
}

export function number(text) {
  return h("td", { className: "number" }, text);
}

// A line through values, oldest first.
export function line(values) {
  const space = "http://www.w3.org/2000/svg";
  const svg = document.createElementNS(space, "svg");
  const top = Math.max(...values, 1e-9);
  svg.setAttribute("viewBox", "0 0 100 40");
  svg.setAttribute("preserveAspectRatio", "none");
  svg.setAttribute("aria-hidden", "true");
  const path = document.createElementNS(space, "path");
  const place = (value, index) => `${(100 * index) / Math.max(1, values.length - 1)},${38 - (36 * value) / top}`;
  path.setAttribute("d", `M${values.map(place).join("L")}`);
  svg.append(path);
  return svg;
}

// A place to drop files or choose them; by keyboard too, since it is a label around an input.
export function dropZone(text, accept, take) {
  const input = h("input", { type: "file", multiple: true, accept });
  const zone = h("label", { className: "drop" }, input, text);
  input.addEventListener("change", () => {
    take([...input.files]);
    input.value = "";
  });
  for (const kind of ["dragover", "dragleave", "drop"]) {
    zone.addEventListener(kind, (event) => {
      event.preventDefault();
      zone.classList.toggle("over", kind === "dragover");
      if (kind === "drop") take([...event.dataTransfer.files]);
    });
  }
  return zone;
}
