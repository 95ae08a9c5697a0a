// Elements and numbers. Text is always text: nothing that the server says becomes markup.

import { dropped } from "./photos.js";

export const NONE = "–"; // where there is no value

export function h(name, attributes = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
    else if (key in element) element[key] = value;
    else element.setAttribute(key, value);
  }
  element.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined));
  return element;
}

export function loading(text = "Loading …") {
  return h("p", { className: "quiet loading" }, text);
}

export function empty(...text) {
  return h("p", { className: "empty" }, text);
}

export function percent(value) {
  return typeof value === "number" ? `${(100 * value).toFixed(1)}\u00a0%` : NONE;
}

export function count(value) {
  return new Intl.NumberFormat("en").format(value);
}

export function many(value, one, more = `${one}s`) {
  return `${count(value)} ${value === 1 ? one : more}`;
}

// Seconds in the largest units that say something.
export function lasting(seconds) {
  for (const [unit, size] of [["day", 86400], ["hour", 3600], ["minute", 60]]) {
    if (seconds >= size) return many(Math.floor(seconds / size), unit);
  }
  return many(Math.floor(seconds), "second");
}

export function ago(iso) {
  const seconds = Math.max(0, (Date.now() - Date.parse(iso)) / 1000);
  const text = seconds < 60 ? "just now" : `${lasting(seconds)} ago`;
  return h("time", { dateTime: iso, title: at(iso) }, text);
}

function at(iso) {
  return `${iso.slice(0, 19).replace("T", " ")} UTC`;
}

export function short(sha) {
  return sha.slice(0, 12);
}

const LONG = 16; // letters of a name that needs a line of its own

// Bars of [name, share, more classes for the fill]; where a name is long, each is above its bar.
export function bars(rows) {
  const parts = rows.flatMap(([name, value, kind = ""]) => {
    const fill = h("div", { className: `fill ${kind}` });
    fill.style.width = `${100 * Math.min(1, Math.max(0, value))}%`;
    return [
      h("dt", {}, name), h("dd", { className: "track", ariaHidden: "true" }, fill),
      h("dd", { className: "number" }, percent(value)),
    ];
  });
  const long = rows.some(([name]) => name.length > LONG);
  return h("dl", { className: long ? "bars long" : "bars" }, parts);
}

// A table with a title a column; "#title" is a column of numbers. Rows are lists of texts, elements or cells, or
// { live, cells }. Where the screen is narrow a `stacked` one becomes a card a row, with the titles beside the values.
export function table(caption, titles, rows, kind = "") {
  const names = titles.map((title) => title.replace("#", ""));
  const heads = titles.map((title, place) => h("th", { scope: "col", className: title.startsWith("#") ? "number" : "" }, names[place]));
  const line = (row) => {
    const { live = false, cells } = Array.isArray(row) ? { cells: row } : row;
    return h("tr", { className: live ? "live" : "" }, cells.map((value, place) => {
      const cell = value instanceof HTMLTableCellElement ? value : h("td", {}, value);
      if (titles[place].startsWith("#")) cell.classList.add("number");
      if (value === NONE) cell.classList.add("none");
      cell.dataset.title = names[place];
      return cell;
    }));
  };
  return scrolling(h("div", { className: `scroll ${kind}` }, h("table", {}, h("caption", { className: "unseen" }, caption),
    h("thead", {}, h("tr", {}, heads)), h("tbody", {}, rows.map(line)))), caption);
}

// What is larger than its place is scrolled by the keyboard, too: it takes the focus, and has a name then.
function scrolling(element, name) {
  new ResizeObserver(() => {
    const over = element.scrollWidth > element.clientWidth || element.scrollHeight > element.clientHeight;
    element.tabIndex = over ? 0 : -1;
    element.role = over ? "region" : null;
    element.ariaLabel = over ? name : null;
  }).observe(element);
  return element;
}

function svg(name, attributes, ...children) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.append(...children);
  return element;
}

// A line through values, oldest first, from `low` (or the lowest) up to the highest; `redraw` draws others in its place.
export function line(low = null) {
  const area = svg("path", { class: "area" });
  const stroke = svg("path", { class: "stroke" });
  const element = svg("svg", { class: "line", viewBox: "0 0 100 40", preserveAspectRatio: "none", "aria-hidden": "true" }, area, stroke);
  function redraw(values) {
    const floor = low ?? Math.min(...values);
    const height = Math.max(...values) - floor || 1;
    const place = (value, index) => `${(100 * index) / Math.max(1, values.length - 1)},${38 - (36 * (value - floor)) / height}`;
    const path = values.length > 1 ? `M${values.map(place).join("L")}` : "";
    stroke.setAttribute("d", path);
    area.setAttribute("d", path && `${path}L100,40L0,40Z`);
  }
  return { element, redraw };
}

// A place to choose files, or to drop them: what is dropped anywhere on the page counts, while the part is shown.
export function dropZone(text, hint, accept, take, signal) {
  const input = h("input", { type: "file", multiple: true, accept });
  const zone = h("label", { className: "drop" }, input, h("b", {}, text), h("span", { className: "quiet" }, hint));
  input.addEventListener("change", () => {
    take([...input.files]);
    input.value = "";
  });
  for (const kind of ["dragenter", "dragover", "dragleave", "drop"]) {
    addEventListener(kind, async (event) => {
      if (!event.dataTransfer?.types.includes("Files")) return;
      event.preventDefault();
      zone.classList.toggle("over", kind === "dragover" || kind === "dragenter");
      if (kind === "drop") take(await dropped(event.dataTransfer));
    }, { signal });
  }
  return zone;
}
