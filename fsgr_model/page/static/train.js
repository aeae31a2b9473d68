import { el } from "./dom.js";

export async function showTrain(main) {
  main.append(el("p", {}, "Nothing here yet."));
}
