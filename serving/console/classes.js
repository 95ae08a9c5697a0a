// Every class: its images and examples, how well it is recognised, and its changes, which a refit makes all at once.

import { get } from "./api.js";
import { NONE, count, h, many, percent, table } from "./draw.js";
import { classDetail, editList } from "./class.js";
import { knownClasses } from "./labels.js";
import { learning } from "./learn.js";
import { wilson } from "./interval.js";

const ORDERS = [["head", "as the head has them"], ["recall", "the least recognised"], ["images", "the fewest training images"], ["examples", "the most examples"]];
const FIRST = 100; // classes that are shown before somebody asks for all
const MEASURED = "Recognised: the share of a class's held-out images that the live head gets right, by the refit that made it.";
const UNMEASURED = "How well each class is recognised is measured by a refit; the live head has no report of one that you may see.";

// What the refit that made the live head measured of each class; nothing where none did, or it is for other keys.
async function measured(signal) {
  const { live } = await get("/v1/heads?limit=1", signal);
  const { lineage } = await get(`/v1/heads/${live}`, signal);
  const report = lineage.refit ? (await get(`/v1/refit/${lineage.refit}`, signal).catch(() => null))?.report : null;
  const found = new Map();
  if (!report?.candidate?.recall) return { found, moves: [] };
  for (const [place, name] of report.classes.names.entries()) {
    const value = report.candidate.recall[place];
    if (typeof value === "number") found.set(name, wilson(value, report.class_rows?.[place]));
  }
  for (const { name, recall } of report.new_classes) if (recall) found.set(name, recall);
  return { found, moves: report.moves };
}

function recallCell(recall) {
  if (!recall) return NONE;
  return h("td", {}, percent(recall.value), recall.low === undefined ? null : h("span", { className: "quiet" }, ` ${percent(recall.low)} to ${percent(recall.high)}`));
}

function sorted(classes, order, recalls) {
  const value = { recall: (one) => recalls.get(one.name)?.value ?? 2, images: (one) => one.train_images, examples: (one) => -one.examples }[order];
  return value ? classes.toSorted((a, b) => value(a) - value(b)) : classes;
}

const TITLES = ["class", "group", "#training images", "#examples", "#recognised (95 % interval)"];

export async function show(content, signal) {
  const known = await knownClasses(signal);
  let { found: recalls, moves } = await measured(signal);
  const edits = new Map(); // by the name of a class: its new name, or null
  const order = h("select", {}, ORDERS.map(([value, words]) => h("option", { value }, words)));
  const find = h("input", { type: "search", autocomplete: "off", spellcheck: false });
  const words = h("p", { role: "status" });
  const place = h("div", {});
  const about = h("p", { className: "quiet" });
  const pending = h("div", { ariaLive: "polite" });
  const learn = learning("Make a head with these changes", () => ({ spec: { classes: Object.fromEntries(edits) } }), signal, again);

  function redrawEdits() {
    pending.replaceChildren(editList(edits, known, (name) => {
      edits.delete(name);
      redrawEdits();
    }));
    learn.go.disabled = !edits.size;
  }

  function detail(one) {
    const deeds = {
      edit: (fresh) => {
        edits.set(one.name, fresh);
        redrawEdits();
        pending.scrollIntoView({ block: "nearest" });
      },
      changed: () => known.refresh(),
    };
    const taken = moves.filter((move) => move.true === one.name && move.candidate);
    return h("details", { ontoggle: async (event) => {
      const { target } = event;
      if (!target.open || target.children.length > 1) return;
      target.append(await classDetail(one, taken, known, deeds, signal));
    } }, h("summary", { ariaLabel: `More of ${one.name}` }, one.name));
  }

  function row(one) {
    return [h("td", { className: "name" }, detail(one)), one.known ? one.group ?? "new" : h("span", { className: "chip new" }, "not learned yet"),
      one.train_images ? count(one.train_images) : NONE, one.examples ? count(one.examples) : NONE, recallCell(recalls.get(one.name))];
  }

  // The classes whose names have what is looked for, the first of them or all.
  function redraw(all = false) {
    const wanted = find.value.trim().toLowerCase();
    const found = sorted([...known.classes.values()], order.value, recalls).filter((one) => one.name.toLowerCase().includes(wanted));
    const shown = all ? found : found.slice(0, FIRST);
    const more = h("button", { type: "button", onclick: () => redraw(true) }, `Show all ${count(found.length)}`);
    place.replaceChildren(table("Every class", TITLES, shown.map(row), "stacked"), ...(shown.length < found.length ? [more] : []));
    about.textContent = recalls.size ? MEASURED : UNMEASURED;
    words.textContent = wanted ? `${many(found.length, "class", "classes")} of ${count(known.classes.size)}.` : `${many(found.length, "class", "classes")}.`;
  }

  // After a refit: what the live head knows now; changes that it has are done.
  async function again() {
    await known.refresh();
    ({ found: recalls, moves } = await measured(signal));
    for (const name of [...edits.keys()]) if (!known.classes.get(name)?.known) edits.delete(name);
    redraw();
    redrawEdits();
  }

  order.addEventListener("change", () => redraw());
  find.addEventListener("input", () => redraw());
  content.replaceChildren(
    h("h2", {}, "Classes"), known.list,
    h("div", { className: "fields" }, h("label", {}, "Find a class", find), h("label", {}, "First", order)), words, place,
    about,
    h("h3", { className: "step" }, "Changes"), pending, learn.element,
  );
  redraw();
  redrawEdits();
}
