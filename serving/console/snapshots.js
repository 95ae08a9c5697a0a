// What the checks found in a snapshot, in words and tables.

import { ago, count, h, many, short, table } from "./draw.js";

const GROUPS = ["many", "medium", "few", "new"];
const OPEN = 50; // classes; the table of more is closed until somebody looks
const NAMED = 20; // new classes; more are counted
const NAMES = "breadcrumbs-names"; // of the files that this tab uploaded, by sha256

function names() {
  return JSON.parse(sessionStorage.getItem(NAMES) ?? "{}");
}

export function remember(sha, name) {
  sessionStorage.setItem(NAMES, JSON.stringify({ ...names(), [sha]: name }));
}

export function nameOf(snapshot) {
  return names()[snapshot.sha256] ?? short(snapshot.sha256);
}

export function newClasses(snapshot) {
  return Object.keys(snapshot.classes).filter((name) => snapshot.group_of[name] === "new");
}

function groups(snapshot) {
  const there = GROUPS.filter((name) => snapshot.groups[name]);
  return there.map((name) => h("span", { className: `chip ${name}` }, `${name} ${count(snapshot.groups[name])}`));
}

export function listed(classes) {
  const more = classes.length > NAMED ? ` and ${count(classes.length - NAMED)} more` : "";
  return `${classes.slice(0, NAMED).join(", ")}${more}`;
}

function counts(snapshot) {
  const sorted = Object.entries(snapshot.classes).sort((a, b) => b[1] - a[1]);
  const most = sorted[0]?.[1] ?? 1;
  const rows = sorted.map(([name, n]) => {
    const fill = h("div", { className: "fill" });
    fill.style.width = `${(100 * n) / most}%`;
    return [h("td", { className: "name" }, name), snapshot.group_of[name], count(n),
      h("td", { className: "share", ariaHidden: "true" }, h("div", { className: "track" }, fill))];
  });
  return table(`Rows of each class in ${nameOf(snapshot)}`, ["class", "group", "#rows", "beside the largest"], rows, "counts");
}

// Every class, the largest first; a thousand in each of twenty snapshots are drawn only where somebody looks.
function classes(snapshot, open) {
  const summary = h("summary", {}, `Rows of each class (${count(Object.keys(snapshot.classes).length)})`);
  return h("details", { open, ontoggle: (event) => {
    if (event.target.open && event.target.children.length === 1) event.target.append(counts(snapshot));
  } }, summary);
}

// A line that can be chosen, and everything that was found.
export function entry(snapshot, box, note, open) {
  const fresh = newClasses(snapshot);
  const backbone = snapshot.deployed ? "made by the deployed backbone"
    : ["made by another backbone, ", h("code", {}, short(snapshot.backbone)), ": its rows are moved by images that both have seen"];
  return h("div", { className: "card snapshot" },
    h("label", { className: "check" }, box, h("b", {}, nameOf(snapshot)),
      h("span", {}, `epoch ${snapshot.epoch}, ${many(snapshot.rows, "row")} of ${many(Object.keys(snapshot.classes).length, "class", "classes")}`),
      h("span", { className: "quiet" }, "stored ", ago(snapshot.stored))),
    h("p", { className: "facts" }, groups(snapshot), h("span", {}, backbone), note),
    fresh.length ? h("p", {}, h("b", {}, "New: "), listed(fresh.map((name) => `${name} (${count(snapshot.classes[name])})`))) : null,
    snapshot.converted.length ? h("p", { className: "quiet" }, `Converted: ${snapshot.converted.join("; ")}`) : null,
    classes(snapshot, open && Object.keys(snapshot.classes).length <= OPEN));
}
