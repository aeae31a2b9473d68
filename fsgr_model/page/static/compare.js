import { el } from "./dom.js";

export async function showCompare(main) {
  main.append(el("p", {}, "Nothing here yet."));
}
