// A refit from what people said, as a person starts it: one button, then what the gate measured.

import { post } from "./api.js";
import { h } from "./draw.js";
import { follow, keepShown } from "./job.js";
import { attempt } from "./trouble.js";

const WHEN = [["if_better", "use it at once if it is better"], ["never", "only show me how good it is"]];

// A button, and below it the refit that it started. `request` is what to ask for, null where there is nothing to do.
export function learning(text, request, signal, ended = () => {}) {
  const when = h("select", {}, WHEN.map(([value, words]) => h("option", { value }, words)));
  const told = h("div", { className: "told" });
  const go = h("button", { type: "button", className: "main", onclick: start }, text);

  async function start() {
    go.disabled = true;
    await attempt(async () => {
      const { spec = {}, ...more } = request();
      const { id } = await post("/v1/refit", { ...more, spec: { ...spec, activate: when.value } });
      keepShown(id);
      const shown = follow(id, told, signal);
      told.scrollIntoView({ block: "nearest" });
      await shown;
      told.scrollIntoView({ block: "nearest" });
    });
    go.disabled = false;
    await attempt(ended);
  }

  const element = h("section", {},
    h("div", { className: "fields" }, h("label", {}, "When the new head is ready", when), go),
    h("p", { className: "quiet" }, "The gate compares the new head with the live one on images that neither has learned from. It says no if a class becomes clearly worse."),
    told);
  return { element, go };
}
