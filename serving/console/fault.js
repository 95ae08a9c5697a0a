// Says that a script failed, whichever it was, also one that could not be loaded. No module, so that it is there first.

addEventListener("error", (event) => {
  if (event instanceof ErrorEvent) say(event.message);
  else if (event.target instanceof HTMLScriptElement) say(`${event.target.getAttribute("src")} could not be loaded`);
}, true);
addEventListener("unhandledrejection", (event) => say(String(event.reason)));

function say(words) {
  const trouble = document.getElementById("trouble");
  trouble.textContent = `The console itself failed: ${words}. Reload the page; if it happens again, it is a bug.`;
  trouble.hidden = false;
  for (const one of document.querySelectorAll(".loading")) one.textContent = "This could not be shown.";
}
