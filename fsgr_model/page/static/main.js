// Which tab is shown follows the address: #try, #look, #look/17, #compare, #train.
import { ask, el, notice } from "./dom.js";
import { showCompare } from "./compare.js";
import { showLook } from "./look.js";
import { showTrain } from "./train.js";
import { showTry } from "./try.js";

const TABS = { try: showTry, look: showLook, compare: showCompare, train: showTrain };
const main = document.getElementById("main");
let about = null;
let shown = null; // the tab that is shown: its name, and what it returned

async function show() {
  const [name, ...rest] = location.hash.slice(1).split("/");
  const tab = name in TABS ? name : about.decode ? "try" : "look";
  for (const link of document.querySelectorAll("nav a")) {
    if (link.hash === `#${tab}`) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  if (shown?.name !== tab) {
    notice("");
    shown?.view?.leave?.();
    document.title = `${tab[0].toUpperCase()}${tab.slice(1)} · FSGR captioning`;
    main.replaceChildren();
    const entry = { name: tab, view: null };
    shown = entry;
    try {
      entry.view = await TABS[tab](main, about);
    } catch (error) {
      if (shown === entry) main.replaceChildren(el("p", { class: "bad" }, error.message));
      return;
    }
    if (shown !== entry) return entry.view?.leave?.();
  }
  shown.view?.go?.(rest);
}

try {
  about = await ask("/api/about");
  document.getElementById("title").textContent = about.title;
  window.addEventListener("hashchange", show);
  await show();
} catch (error) {
  main.replaceChildren(el("p", { class: "bad" }, error.message));
}
