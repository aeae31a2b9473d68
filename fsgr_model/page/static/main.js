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

const asked = () => location.hash.slice(1).split("/");

async function show() {
  const [name] = asked();
  const tab = name in TABS ? name : about.decode ? "try" : "look";
  for (const link of document.querySelectorAll("nav a")) {
    if (link.hash === `#${tab}`) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  if (shown?.name !== tab) {
    notice("");
    shown?.view?.leave?.();
    document.title = `${tab[0].toUpperCase()}${tab.slice(1)} · FSGR captioning`;
    // One of its own for each tab: what comes late for a tab that was left is not seen.
    const room = el("div");
    main.replaceChildren(room);
    const entry = { name: tab, view: null };
    shown = entry;
    main.setAttribute("aria-busy", "true");
    try {
      entry.view = await TABS[tab](room, about);
    } catch (error) {
      room.replaceChildren(el("p", { class: "bad" }, error.message));
      return;
    } finally {
      if (shown === entry) main.removeAttribute("aria-busy");
    }
    if (shown !== entry) return entry.view?.leave?.();
  }
  // What is asked for may have changed while the tab came.
  shown.view?.go?.(asked().slice(1));
}

try {
  about = await ask("/api/about");
  document.getElementById("title").textContent = about.title;
  window.addEventListener("hashchange", show);
  await show();
} catch (error) {
  main.replaceChildren(el("p", { class: "bad" }, error.message));
}
