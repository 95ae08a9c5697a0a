// Snapshots in, what the checks found, which examples, a refit followed live, its report.

import { get, getPages, post, upload } from "./api.js";
import { NONE, ago, count, dropZone, empty, h, lasting, many, table } from "./draw.js";
import { ended, follow, keepShown, keptShown } from "./job.js";
import { entry, listed, nameOf, newClasses, remember } from "./snapshots.js";
import { attempt, concernsAll, tell } from "./trouble.js";

const FORMATS = "safetensors, .npz, Parquet or Arrow";
const WHEN = [["if_better", "if the gate says yes"], ["never", "never"], ["always", "always"]];
const PRIORS = [["", "as the live head has it"], ["uniform", "all classes equally"], ["training", "as in training"]];
const WHAT = "A refit makes a new head from snapshots, and from those that the bundle carries. A snapshot has the features and classes of images, as the backbone saw them once.";
const LISTED = 20;
const PAGES = 10; // of refits and of heads, a hundred each: what so many were compared on is never fitted to
const APART = /hold-?out|held-?out/i; // names of files that are made to compare on

function option(snapshot) {
  const stored = ago(snapshot.stored).textContent;
  const text = `${nameOf(snapshot)}: epoch ${snapshot.epoch}, ${count(snapshot.rows)} rows, ${stored}`;
  return h("option", { value: snapshot.sha256, disabled: !snapshot.deployed }, snapshot.deployed ? text : `${text}: another backbone`);
}

// Lines `old = new` or `old =` as the mapping of a spec; a fault is a sentence about its line.
function edits(text) {
  const mapping = new Map();
  for (const [index, line] of text.split("\n").entries()) {
    if (!line.trim()) continue;
    const [, old, fresh] = line.match(/^(.*?)\s+=(?:\s+(.*))?$/) ?? line.match(/^([^=]*)=([^=]*)$/) ?? [];
    const name = old?.trim();
    if (!name) return { fault: `Line ${index + 1}: expected old = new, or old = to remove the class.` };
    if (mapping.has(name)) return { fault: `Line ${index + 1}: ${name} has a line already.` };
    mapping.set(name, fresh?.trim() || null);
  }
  return { mapping: Object.fromEntries(mapping) };
}

function editing() {
  const field = h("textarea", { rows: 4, spellcheck: false, placeholder: "oak = holm oak", "aria-describedby": "edits-hint" });
  field.addEventListener("input", () => field.setCustomValidity(edits(field.value).fault ?? ""));
  const hint = h("p", { id: "edits-hint", className: "quiet" },
    "A class a line. old = new renames it; two that become the same, or one that becomes a class that is there, are merged; old = removes it. All at once.");
  return { field, element: h("details", {}, h("summary", {}, "Rename, merge or remove classes"), h("label", {}, "Old and new names", field), hint) };
}

// Which examples to fit to; those that there are none of cannot be chosen.
function choosingExamples(counts) {
  const choices = [["verified", "the verified ones", counts.verified], ["all", "all", counts.examples], ["none", "none", 1]];
  const field = h("select", {}, choices.map(([value, text, there]) =>
    h("option", { value, disabled: !there }, value === "none" ? text : `${text} (${count(there)})`)));
  field.value = counts.verified ? "verified" : "none";
  const words = () => ({ verified: many(counts.verified, "verified example"), all: many(counts.examples, "example"), none: null })[field.value];
  return { field, words };
}

// The snapshots that heads were compared on: nothing may be fitted to them.
function apart(refits, heads) {
  const named = [...refits.map((job) => job.request.holdout), ...heads.map((head) => head.lineage.holdout)];
  return new Set(named.filter(Boolean));
}

// The form of a refit: which snapshots, compared on what, and in words what a start would do.
function form(counts, start, priors, held) {
  const known = new Map(); // by sha256: the snapshot, its box, the note that it is not fitted to, its line
  const list = h("div", { className: "snapshots" }, empty("No snapshots are stored yet: drop some above, or fit to the bundle's own."));
  const holdout = h("select", {}, h("option", { value: "" }, "a share of the rows"));
  const activate = h("select", {}, WHEN.map(([value, text]) => h("option", { value }, text)));
  const prior = h("select", {}, PRIORS.map(([value, text]) => h("option", { value }, text)));
  for (const { name } of priors) prior.append(h("option", { value: name }, `prior ${name}`));
  const own = h("input", { type: "checkbox", checked: true });
  const grow = h("input", { type: "checkbox" });
  const growing = h("label", { className: "check", hidden: true }, grow, h("span", {}));
  const { field, element: edit } = editing();
  const examples = choosingExamples(counts);
  field.addEventListener("input", change);
  const words = h("p", { ariaLive: "polite" });
  const go = h("button", { className: "main", type: "submit" }, "Start the refit");

  const chosen = () => [...known.values()].filter(({ box }) => box.checked && !box.disabled).map(({ snapshot }) => snapshot);

  function change() {
    for (const [sha, { box, note }] of known) {
      box.disabled = sha === holdout.value || held.has(sha);
      if (box.disabled) box.checked = false;
      note.hidden = !box.disabled;
      note.textContent = sha === holdout.value ? "to compare on" : "was compared on: nothing is fitted to it";
    }
    const fitted = chosen();
    const fresh = [...new Set(fitted.flatMap(newClasses))];
    growing.hidden = fresh.length === 0;
    growing.lastChild.textContent = `Let ${fresh.length === 1 ? "the new class" : "the new classes"} in: ${listed(fresh)}`;
    const epochs = [...new Set(fitted.map((one) => one.epoch))].sort((a, b) => a - b).join(", ");
    const rows = fitted.reduce((sum, one) => sum + one.rows, 0);
    const mine = own.checked ? "the bundle's own" : null;
    const parts = [fitted.length ? `${many(fitted.length, "snapshot")} (${many(rows, "row")}; epoch ${epochs})` : null, examples.words(), mine];
    const from = new Intl.ListFormat("en").format(parts.filter(Boolean));
    words.textContent = from ? `Fits a head to ${from}.` : "Choose a snapshot, examples, or the bundle's own.";
    if (fresh.length && !grow.checked) words.textContent += " New classes that are not let in end it with an error.";
    const { mapping = {}, fault } = edits(field.value);
    const became = Object.values(mapping);
    const gone = became.filter((name) => name === null).length;
    if (became.length > gone) words.textContent += ` ${many(became.length - gone, "class", "classes")} renamed or merged.`;
    if (gone) words.textContent += ` ${many(gone, "class", "classes")} removed.`;
    if (fault) words.textContent += ` ${fault}`;
    go.disabled = !from;
  }

  // A fresh one was just uploaded: it is chosen and open, and takes the place of what was known of it.
  function add(snapshot, fresh) {
    if (!known.size) list.replaceChildren();
    const old = known.get(snapshot.sha256);
    old?.line.remove();
    const judge = held.has(snapshot.sha256) || APART.test(nameOf(snapshot));
    const box = h("input", { type: "checkbox", value: snapshot.sha256, checked: fresh && !judge });
    const note = h("span", { className: "chip", hidden: true });
    const line = entry(snapshot, box, note, fresh);
    const choice = option(snapshot);
    known.set(snapshot.sha256, { snapshot, box, note, line });
    if (fresh) list.prepend(line);
    else list.append(line);
    const same = [...holdout.options].find((one) => one.value === snapshot.sha256);
    if (same) same.textContent = choice.textContent;
    else holdout.append(choice);
    if (fresh && judge && !holdout.value && snapshot.deployed) holdout.value = snapshot.sha256;
    change();
  }

  const element = h("form", { onchange: change, onsubmit: (event) => {
    event.preventDefault();
    const spec = { activate: activate.value, use_bundle_snapshots: own.checked, allow_new_classes: !growing.hidden && grow.checked, classes: edits(field.value).mapping, deployment_prior: prior.value || null };
    start({ snapshots: chosen().map((one) => one.sha256), examples: examples.field.value, holdout: holdout.value || null, spec });
  } },
  h("h3", {}, "Snapshots to fit to"), list,
  h("div", { className: "card" },
    h("label", { className: "check" }, own, h("span", {}, "Also to those that the bundle carries")), growing, edit,
    h("div", { className: "fields" }, h("label", {}, "Examples", examples.field), h("label", {}, "Compare on", holdout), h("label", {}, "Go live", activate), h("label", {}, "Classes will be as frequent", prior), go), words));
  change();
  return { element, add };
}

function refitTable(jobs, look) {
  const rows = jobs.slice(0, LISTED).map((job) => [
    ago(job.created), h("code", {}, job.id), job.state,
    job.finished && job.started ? lasting((Date.parse(job.finished) - Date.parse(job.started)) / 1000) : NONE,
    job.verdict?.note ?? job.error?.message ?? NONE,
    h("button", { ariaLabel: `${ended(job) ? "Result" : "Follow"} of refit ${job.id}`, onclick: () => look(job.id) }, ended(job) ? "Result" : "Follow"),
  ]);
  return rows.length ? table("Refits, the newest first", ["asked for", "refit", "state", "took", "what came of it", "look"], rows, "stacked")
    : empty("None yet. The first one makes head 2.");
}

export async function show(content, signal) {
  const [{ snapshots, next }, { classes }, { priors }, { refits }, { heads }] = await Promise.all([
    ...["/v1/snapshots", "/v1/classes", "/v1/priors"].map((path) => get(path, signal)),
    getPages("/v1/refit", "refits", PAGES, signal), getPages("/v1/heads", "heads", PAGES, signal),
  ]);
  const sum = (name) => classes.reduce((all, one) => all + one[name], 0);
  const uploads = h("div", { ariaLive: "polite" });
  const told = h("div", { className: "told" });
  const past = h("div", {}, refitTable(refits, look));
  const held = apart(refits, heads);
  const { element, add } = form({ verified: sum("verified"), examples: sum("examples") }, start, priors.filter((one) => one.kind === "weights"), held);
  let following = new AbortController(); // of the refit that is shown; another one ends it

  // Show a refit; where somebody asked for it, bring it into sight.
  async function look(id, asked = true) {
    const reveal = () => asked && told.scrollIntoView({ block: "nearest" });
    following.abort(new DOMException("another refit is shown", "AbortError"));
    following = new AbortController();
    keepShown(id);
    await attempt(async () => {
      const shown = follow(id, told, AbortSignal.any([signal, following.signal]));
      reveal();
      await shown;
      reveal();
      past.replaceChildren(refitTable((await get("/v1/refit", signal)).refits, look));
    });
  }

  function start(request) {
    attempt(async () => {
      const { id } = await post("/v1/refit", request);
      if (request.holdout) held.add(request.holdout);
      await look(id);
    });
  }

  async function take(files) {
    for (const file of files) {
      const bar = h("progress", { max: 1, value: 0, ariaLabel: `uploading ${file.name}` });
      const line = h("p", { className: "upload" }, h("span", {}, file.name), bar);
      uploads.append(line);
      try {
        const snapshot = await upload(file, (done, all) => { bar.value = done / all; }, signal);
        remember(snapshot.sha256, file.name);
        add(snapshot, true);
        line.remove();
      } catch (error) {
        line.className = "bad";
        line.role = "alert";
        line.textContent = `${file.name}: ${error.message}`;
        if (concernsAll(error)) tell(error);
      }
    }
  }

  for (const snapshot of snapshots) add(snapshot, false);
  older(next);

  // A button for the snapshots that were stored before those that are shown, if there are any.
  function older(after) {
    if (!after) return;
    const button = h("button", { type: "button", onclick: () => attempt(async () => {
      const page = await get(`/v1/snapshots?after=${encodeURIComponent(after)}`, signal);
      for (const snapshot of page.snapshots) add(snapshot, false);
      button.remove();
      older(page.next);
    }) }, "Show older snapshots");
    element.querySelector(".snapshots").after(button);
  }

  content.replaceChildren(
    h("h2", {}, "Refit"), h("p", { className: "quiet" }, WHAT), dropZone("Drop snapshot files, or choose them", FORMATS, "", take, signal),
    uploads, element, told, h("h2", {}, "Refits"), past,
  );
  const open = refits.find((job) => job.id === keptShown()) ?? refits.find((job) => !ended(job));
  if (open) look(open.id, false);
}
