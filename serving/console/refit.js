// Snapshots in, what the checks found, a refit followed live, its report.

import { events, get, post, send, upload } from "/console/api.js";
import { bars, count, dropZone, h, number, percent, table } from "/console/draw.js";
import { attempt } from "/console/main.js";

const GROUPS = ["many", "medium", "few", "new"];

function found(snapshot) {
  const rows = `${count(snapshot.rows)} rows of ${Object.keys(snapshot.classes).length} classes, epoch ${snapshot.epoch}`;
  const by = GROUPS.filter((name) => snapshot.groups[name]).map((name) => `${name} ${count(snapshot.groups[name])}`).join(", ");
  const origin = snapshot.deployed ? "of the deployed backbone" : `of another backbone, ${snapshot.backbone.slice(0, 12)}: will be transferred`;
  const few = Object.entries(snapshot.classes).sort((a, b) => a[1] - b[1]).slice(0, 5).map(([name, n]) => `${name} ${n}`).join(", ");
  return [h("b", {}, snapshot.sha256.slice(0, 12)), ` ${rows}`, h("br"),
    h("span", { className: "quiet" }, `${by}; ${origin}; fewest: ${few}`),
    snapshot.converted.length ? h("span", { className: "quiet" }, `; converted: ${snapshot.converted.join("; ")}`) : ""];
}

function reportOf(job) {
  const { report, verdict } = job;
  if (!report) return h("p", { className: job.error ? "bad" : "quiet" }, job.error ? job.error.message : `This refit is ${job.state}.`);
  const names = ["many", "medium", "few", "all"].filter((name) => typeof report.candidate[name] === "number");
  const rows = names.map((name) => ({
    cells: [name, number(percent(report.live[name])), number(percent(report.candidate[name]))],
  }));
  const page = h("a", { href: `/console/report.html#${job.id}` }, "The whole report");
  return h("div", { className: "card" },
    h("h3", {}, `Head ${verdict?.head ?? ""}: ${verdict?.note ?? job.state}`),
    h("p", { className: verdict?.gate.passed ? "good" : "bad" },
      verdict?.gate.passed ? "The gate says yes." : `The gate says no: ${verdict?.gate.reasons.join("; ") ?? ""}`),
    table(["recall, %", "#live", "#new"], rows),
    bars(names.flatMap((name) => [[`${name}, live`, report.live[name]], [`${name}, new`, report.candidate[name], "second"]])),
    h("p", {}, page));
}

export async function show(content) {
  const [{ snapshots }, { refits }] = await Promise.all([get("/v1/snapshots"), get("/v1/refit")]);
  const list = h("div", {});
  const uploads = h("div", { ariaLive: "polite" });
  const told = h("div", { ariaLive: "polite" });
  const holdout = h("select", {}, h("option", { value: "" }, "a share of the others"));
  const activate = h("select", {}, [["if_better", "if the gate says yes"], ["never", "never"], ["always", "always"]].map(
    ([value, text]) => h("option", { value }, text)));
  const own = h("input", { type: "checkbox", checked: true });

  function add(snapshot, checked) {
    if (list.querySelector(`[value="${snapshot.sha256}"]`)) return;
    list.querySelector(".quiet.empty")?.remove();
    const box = h("input", { type: "checkbox", value: snapshot.sha256, checked });
    list.append(h("label", { className: "check" }, box, h("span", {}, found(snapshot))));
    holdout.append(h("option", { value: snapshot.sha256 }, snapshot.sha256.slice(0, 12)));
  }

  async function take(files) {
    for (const file of files) {
      const bar = h("progress", { max: 1, value: 0, ariaLabel: `uploading ${file.name}` });
      const entry = h("p", {}, `${file.name}: `, bar);
      uploads.append(entry);
      await attempt(async () => {
        try {
          add(await upload(file, (done, all) => { bar.value = done / all; }), true);
        } finally {
          entry.remove();
        }
      });
    }
  }

  async function follow(id) {
    const stage = h("p", {}, "waiting");
    const stop = h("button", { onclick: () => attempt(() => send(`/v1/refit/${id}`, { method: "DELETE" })) }, "Cancel");
    told.replaceChildren(h("div", { className: "card" }, h("h3", {}, `Refit ${id}`), h("progress"), stage, stop));
    let words = "";
    for await (const event of events(id)) {
      if (event.event === "stage") words = event.stage;
      if (event.event === "state") words = event.state;
      const norm = event.gradient_norm ? `, gradient norm ${event.gradient_norm.toExponential(1)}` : "";
      stage.textContent = words + norm;
    }
    told.replaceChildren(reportOf(await get(`/v1/refit/${id}`)));
  }

  async function start() {
    const chosen = [...list.querySelectorAll("input:checked")].map((box) => box.value).filter((sha) => sha !== holdout.value);
    await attempt(async () => {
      const spec = { activate: activate.value, use_bundle_snapshots: own.checked };
      const job = await post("/v1/refit", { snapshots: chosen, holdout: holdout.value || null, spec });
      await follow(job.id);
    });
  }

  for (const snapshot of snapshots) add(snapshot, false);
  if (!snapshots.length) list.append(h("p", { className: "quiet empty" }, "No snapshots stored yet."));
  const jobs = refits.slice(0, 20).map((job) => ({ cells: [job.id, job.state, job.verdict?.note ?? job.error?.message ?? "",
    h("button", { onclick: () => attempt(() => follow(job.id)) }, job.finished ? "Report" : "Follow")] }));
  content.replaceChildren(
    h("h2", {}, "Refit"), dropZone("Drop snapshot files here, or press Enter to choose: safetensors, .npz, Parquet, Arrow", "", take),
    uploads, h("h3", {}, "Snapshots to fit to"), list, h("label", { className: "check" }, own, "and those of the bundle"),
    h("div", { className: "fields" }, h("label", {}, "Compare on", holdout), h("label", {}, "Go live", activate),
      h("button", { className: "main", onclick: start }, "Start")),
    told, h("h2", {}, "Refits"),
    jobs.length ? table(["refit", "state", "verdict", ""], jobs) : h("p", { className: "quiet" }, "None yet."),
  );
  const wanted = sessionStorage.getItem("job");
  sessionStorage.removeItem("job");
  if (wanted) await follow(wanted);
}
