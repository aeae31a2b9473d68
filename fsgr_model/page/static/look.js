// The tab Look: the test split as a grid that can be sorted and filtered; an address for each picture.
import { ask, el, picture, select } from "./dom.js";
import { described } from "./described.js";
import { Grid } from "./grid.js";

export async function showLook(main, about) {
  if (!about.phases.length) {
    main.append(el("p", {}, "There are no scores here: run dvc repro evaluate in the project, then open this page there."));
    return;
  }
  const look = new Look(main, about);
  await look.load(about.phases[0]);
  return { go: ([id]) => look.open(id), leave: () => look.leave() };
}

class Look {
  constructor(main, about) {
    this.main = main;
    this.about = about;
    this.wish = { sort: "CIDEr", up: true, domain: "", wrong: "", from: "", to: "", text: "" };
  }

  async load(phase) {
    this.data = await ask(`/api/look/${phase}`);
    this.grid?.leave();
    if (!(this.wish.sort in this.data.scores)) this.wish.sort = "image id";
    this.count = el("p", { class: "quiet", role: "status" });
    this.grid = new Grid((index) => this.tile(index), "test pictures");
    this.dialog = el("dialog", { "aria-label": "a test picture", close: () => this.closed() });
    this.dialog.addEventListener("keydown", (event) => this.key(event));
    this.main.replaceChildren(this.bar(), this.count, this.grid.element, this.dialog);
    this.arrange();
  }

  bar() {
    const { data, wish } = this;
    const same = (texts) => texts.map((text) => [text, text]);
    const names = [...new Set(data.invented.flat())].sort();
    const domains = [...new Set(data.domains)].filter(Boolean).sort();
    const set = (key) => (value) => {
      wish[key] = value;
      this.arrange();
    };
    const typed = (label, key, attributes) =>
      el("label", {}, label, el("input", { ...attributes, value: wish[key], input: (event) => set(key)(event.target.value) }));
    const parts = [
      select("captions of", same(this.about.phases), data.phase, (phase) => this.load(phase)),
      select("sort by", same(["image id", ...Object.keys(data.scores)]), wish.sort, set("sort")),
      select("order", [["up", "lowest first"], ["down", "highest first"]], wish.up ? "up" : "down", (value) => set("up")(value === "up")),
      typed("from", "from", { type: "number", step: "any" }),
      typed("to", "to", { type: "number", step: "any" }),
    ];
    if (domains.length) parts.push(select("domain", [["", "all"], ...same(domains)], wish.domain, set("domain")));
    if ("wrong_objects" in data.scores) {
      const choices = [["", "all"], ["*", "any"], ["-", "none"], ...same(names)];
      parts.push(select("object named wrongly", choices, wish.wrong, set("wrong")));
    }
    parts.push(typed("words in the caption", "text", { type: "search" }));
    return el("div", { class: "bar" }, ...parts);
  }

  arrange() {
    const { data, wish } = this;
    const key = wish.sort === "image id" ? data.image_ids : data.scores[wish.sort];
    const text = wish.text.trim().toLowerCase();
    const from = wish.from === "" ? -Infinity : Number(wish.from);
    const to = wish.to === "" ? Infinity : Number(wish.to);
    const wrong = (names) =>
      wish.wrong === "" || (wish.wrong === "*" ? names.length > 0 : wish.wrong === "-" ? !names.length : names.includes(wish.wrong));
    const rows = data.image_ids.map((_, row) => row).filter((row) =>
      key[row] >= from && key[row] <= to && (!wish.domain || data.domains[row] === wish.domain)
      && wrong(data.invented[row]) && (!text || data.captions[row].toLowerCase().includes(text)));
    const sign = wish.up ? 1 : -1;
    rows.sort((a, b) => sign * (key[a] - key[b]) || a - b);
    this.rows = rows;
    this.count.textContent = `${rows.length} of ${data.image_ids.length} pictures`;
    this.grid.fill(rows.length);
  }

  tile(index) {
    const { data, wish } = this;
    const row = this.rows[index];
    const id = data.image_ids[row];
    const score = wish.sort === "image id" ? id : data.scores[wish.sort][row].toFixed(2);
    return el(
      "a",
      { class: "tile", href: `#look/${id}` },
      el("img", { "data-src": picture(id, data.versions[row], 224), alt: "", decoding: "async" }),
      el("span", { class: "score" }, `${score}`),
      el("p", { dir: "auto" }, data.captions[row]),
    );
  }

  async open(id) {
    this.wanted = id;
    if (id === undefined) {
      this.dialog.close();
      return;
    }
    let content;
    try {
      const found = await ask(`/api/image/${encodeURIComponent(id)}`);
      content = () => {
        this.id = found.image_id;
        return this.detail(found);
      };
    } catch (error) {
      content = () => el("p", { class: "bad" }, error.message);
    }
    if (this.wanted !== id) return; // another one was asked for meanwhile, or none
    this.dialog.replaceChildren(this.close(), content());
    if (this.dialog.open) this.dialog.querySelector("button").focus(); // the one that had the focus is gone
    else this.dialog.showModal();
  }

  close() {
    return el("form", { method: "dialog" }, el("button", { class: "main" }, "Close"));
  }

  detail(found) {
    const source = picture(found.image_id, found.version, 1024);
    const image = el("img", { src: source, alt: `picture ${found.image_id}` });
    const place = el("div", {});
    const texts = found.references.map((text) => el("li", { dir: "auto" }, text));
    const phases = Object.entries(found.phases).map(([phase, of]) => el(
      "section", {},
      el("h2", {}, `${phase}: `, el("bdi", {}, of.caption)),
      of.invented.length ? el("p", { class: "bad" }, "named, but not there: ", el("bdi", {}, of.invented.join(", "))) : null,
      scoreTable(of.scores),
    ));
    const look = async (event) => {
      event.target.disabled = true;
      try {
        const captioned = await ask(`/api/caption?maps=true&image_id=${found.image_id}`, { method: "POST" });
        place.replaceChildren(described(captioned, source, `picture ${found.image_id}`));
        image.hidden = true;
      } catch (error) {
        place.replaceChildren(el("p", { class: "bad" }, error.message));
      }
      event.target.disabled = false;
    };
    return el(
      "div", {},
      el("h2", {}, `Picture ${found.image_id}${found.domain ? `, ${found.domain}` : ""}`),
      el("div", { class: "two" },
        image,
        el("div", {}, el("h2", {}, "People wrote"), el("ul", {}, ...texts),
          this.about.decode ? el("button", { type: "button", click: look }, "Where did the network look?") : null)),
      place,
      el("div", { class: "two" }, ...phases),
    );
  }

  key(event) {
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (!step || event.target.matches("input")) return;
    const place = this.rows.findIndex((row) => this.data.image_ids[row] === this.id) + step;
    if (place >= 0 && place < this.rows.length) location.hash = `#look/${this.data.image_ids[this.rows[place]]}`;
  }

  closed() {
    if (location.hash !== "#look" && location.hash.startsWith("#look")) location.hash = "#look";
  }

  leave() {
    this.wanted = undefined;
    this.grid.leave();
    if (this.dialog.open) this.dialog.close();
  }
}

function scoreTable(scores) {
  const rows = Object.entries(scores).map(([name, value]) =>
    el("tr", {}, el("th", { scope: "row" }, name), el("td", {}, String(Math.round(1000 * value) / 1000))));
  return el("table", {}, el("tbody", {}, ...rows));
}
