// What the checks found in a snapshot, in words and tables.

import { ago, count, h, many, short, table } from "/console/draw.js";

const GROUPS = ["many", "medium", "few", "new"];
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

function classes(snapshot) {
  const sorted = Object.entries(snapshot.classes).sort((a, b) => b[1] - a[1]);
  const most = sorted[0]?.[1] ?? 1;
  const rows = sorted.map(([name, n]) => {
    const fill = h("div", { className: `fill ${snapshot.group_of[name]}` });
    fill.style.width = `${(100 * n) / most}%`;
    return [h("td", { className: "name" }, name), snapshot.group_of[name], count(n),
      h("td", { className: "share", ariaHidden: "true" }, h("div", { className: "track" }, fill))];
  });
  return h("details", {}, h("summary", {}, `Rows of each class (${count(sorted.length)})`),
    table(`Rows of each class in ${nameOf(snapshot)}`, ["class", "group", "#rows", "beside the largest"], rows, "counts"));
}

// A line that can be chosen, and everything that was found.
export function entry(snapshot, box, note, open) {
  const fresh = newClasses(snapshot);
  const found = classes(snapshot);
  found.open = open;
  const backbone = snapshot.deployed ? "made by the deployed backbone"
    : ["made by another backbone, ", h("code", {}, short(snapshot.backbone)), ": its features are transferred"];
  return h("div", { className: "card snapshot" },
    h("label", { className: "check" }, box, h("b", {}, nameOf(snapshot)),
      h("span", {}, `epoch ${snapshot.epoch}, ${many(snapshot.rows, "row")} of ${many(Object.keys(snapshot.classes).length, "class", "classes")}`),
      h("span", { className: "quiet" }, "stored ", ago(snapshot.stored))),
    h("p", { className: "facts" }, groups(snapshot), h("span", {}, backbone), note),
    fresh.length ? h("p", {}, h("b", {}, "New: "), fresh.map((name) => `${name} (${count(snapshot.classes[name])})`).join(", ")) : null,
    snapshot.converted.length ? h("p", { className: "quiet" }, `Converted: ${snapshot.converted.join("; ")}`) : null,
    found);
}
