// What is served, on every page: the model, the live head, its classes, the backbone and where it runs.

import { get } from "./api.js";
import { h, many } from "./draw.js";

const PRECISIONS = { full: "", half: " in half precision", int8: " in int8" };
const SHOWN = 8; // letters of a backbone's digest
const place = document.getElementById("served");

function words({ model, head, classes, backbone, device, precision, takes }) {
  const network = takes?.includes("images") ? `backbone${PRECISIONS[precision] ?? ""}` : "features of backbone";
  return ["Serving ", h("b", {}, model), `: head ${head}, ${many(classes, "class", "classes")}, ${network} `,
    h("code", { title: backbone }, backbone.slice(0, SHOWN)), ` on ${device}`];
}

// Look what is served now; a server that does not tell has nothing said of it.
export async function tellServed() {
  try {
    place.replaceChildren(...words(await get("/readyz")));
    place.hidden = false;
  } catch {
    place.hidden = true;
  }
}
