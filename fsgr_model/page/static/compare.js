// The tab Compare: two runs beside each other, which differences are real, which images changed most.
import { ask, el, picture, select } from "./dom.js";

export async function showCompare(main, about) {
  if (!about.project) {
    main.append(el("p", {}, "An exported model has no results to compare: open this page in a project."));
    return;
  }
  const revisions = await ask("/api/revisions");
  const systems = revisions.flatMap((name) => ["scst", "xe"].map((phase) => [`${name}:${phase}`, `${name}, ${phase}`]));
  const wish = { a: "workspace:xe", b: "workspace:scst" };
  const place = el("div", { "aria-live": "polite" });
  const choice = (key, label) => select(label, systems, wish[key], (value) => {
    wish[key] = value;
  });
  const button = el("button", { class: "main", type: "button" }, "Compare");
  button.addEventListener("click", async () => {
    button.disabled = true;
    place.replaceChildren(el("p", { class: "quiet" }, "Resampling the test images…"));
    try {
      const query = new URLSearchParams(wish);
      place.replaceChildren(...shown(await ask(`/api/compare?${query}`), wish));
    } catch (error) {
      place.replaceChildren(el("p", { class: "bad" }, error.message));
    }
    button.disabled = false;
  });
  main.append(el("div", { class: "bar" }, choice("a", "A"), choice("b", "B"), button), place);
}

function shown(found, { a, b }) {
  const number = (value, sign = false) =>
    value === null ? "unknown" : `${sign && value >= 0 ? "+" : ""}${value.toFixed(4)}`;
  const real = (row) => {
    if (row.real === null) return el("td", {}, "unknown");
    return el("td", { class: row.real ? (row.b > row.a === !LOWER.has(row.score) ? "good" : "bad") : "quiet" }, row.real ? "yes" : "no");
  };
  const rows = found.table.map((row) => el(
    "tr", {},
    el("th", { scope: "row" }, row.score),
    el("td", {}, number(row.a)), el("td", {}, number(row.b)), el("td", {}, number(row.b - row.a, true)),
    el("td", {}, `${number(row.low, true)} to ${number(row.high, true)}`), real(row),
  ));
  const head = ["score", "A", "B", "B − A", "95% interval", "real"].map((text) => el("th", { scope: "col" }, text));
  const table = el("table", {},
    el("caption", { class: "quiet" }, `A: ${a}. B: ${b}. ${found.images} test images, paired bootstrap.`),
    el("thead", {}, el("tr", {}, ...head)), el("tbody", {}, ...rows));
  return [
    found.note ? el("p", { class: "quiet" }, `CIDEr is left out: ${found.note}`) : "",
    el("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "table of scores" }, table),
    el("h2", {}, found.changed.length ? "Images that changed most" : "No image changed its CIDEr."),
    el("div", { class: "changed" }, ...found.changed.map(card)),
  ];
}

// Of these, lower is better.
const LOWER = new Set(["CHAIRi", "CHAIRs", "bad_endings"]);

function card(row) {
  const change = row.b.CIDEr - row.a.CIDEr;
  const image = row.version
    ? el("a", { href: `#look/${row.image_id}` },
      el("img", { src: picture(row.image_id, row.version, 224), alt: `picture ${row.image_id}`, loading: "lazy" }))
    : null;
  return el(
    "div", { class: "card" },
    image,
    el("p", { class: change > 0 ? "good" : "bad" },
      `CIDEr ${row.a.CIDEr.toFixed(2)} to ${row.b.CIDEr.toFixed(2)}`),
    caption("A", row.a.words), caption("B", row.b.words),
  );
}

function caption(label, words) {
  const parts = words.map(([word, differs]) => (differs ? el("mark", {}, word) : word));
  return el("div", { class: "said" }, el("span", { class: "quiet" }, label), el("p", { dir: "auto" }, ...parts));
}
