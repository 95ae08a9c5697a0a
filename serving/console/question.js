// The question before a head takes another's place: what is known of both, and the reason, which to overrule the gate needs.

import { h, loading } from "./draw.js";

const dialog = document.getElementById("sure");
const reason = document.getElementById("reason");
const yes = document.getElementById("yes");
let asked = 0;

document.getElementById("no").addEventListener("click", () => dialog.close("no"));
addEventListener("hashchange", () => dialog.open && dialog.close("no")); // another part is shown

// A reason may always be given; `overrules`: it must be.
function ask(overrules) {
  reason.required = overrules;
  reason.setCustomValidity("");
  document.getElementById("needed").hidden = !overrules;
  yes.disabled = false;
}

// Show what is found, which may take a moment; until then nobody can agree to it.
async function fill(found, own) {
  const place = document.getElementById("change");
  const { shown, overrules } = await found.catch((error) => ({
    shown: [h("p", { className: "bad", role: "alert" }, `The heads could not be compared: ${error.message}`)], overrules: true,
  }));
  if (own !== asked) return;
  place.replaceChildren(...shown);
  ask(overrules);
}

// Ask before something changes, and show what; the reason, or null where it shall not.
export function sure(question, found, deed) {
  asked += 1;
  document.getElementById("question").textContent = question;
  document.getElementById("change").replaceChildren(loading("Comparing …"));
  document.getElementById("needed").hidden = true;
  reason.value = "";
  yes.textContent = deed;
  yes.disabled = true;
  dialog.returnValue = "no";
  dialog.showModal();
  reason.focus();
  fill(found, asked);
  return new Promise((resolve) => {
    dialog.onclose = () => { // told a frame late: where it is open, it is told of the question before
      if (!dialog.open) resolve(dialog.returnValue === "yes" ? reason.value.trim() : null);
    };
  });
}

// Blanks are no reason.
reason.addEventListener("input", () => {
  reason.setCustomValidity(reason.required && !reason.value.trim() ? "Say why." : "");
});
