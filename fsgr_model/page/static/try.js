// The tab Try: pictures are dropped, pasted or chosen, and captioned one after the other.
import { ask, el, notice } from "./dom.js";
import { described } from "./described.js";

export function showTry(main, about) {
  if (!about.decode) {
    main.append(el("p", {}, "No network has been trained here yet: run dvc repro, then start fsgr page again."));
    return;
  }
  const list = el("div", { "aria-live": "polite" });
  const options = new Options(about.decode);
  const waiting = [];
  let working = false;

  async function add(files) {
    for (const file of files) {
      const place = el("div", { class: "card" }, `${file.name || "a pasted picture"}: waiting…`);
      list.prepend(place);
      waiting.push({ file, place, query: options.query(), most: about.most_bytes });
    }
    if (working) return;
    working = true;
    for (let next = waiting.shift(); next; next = waiting.shift()) await caption(next);
    working = false;
  }

  const input = el("input", {
    type: "file",
    accept: "image/*",
    multiple: true,
    change: (event) => {
      add([...event.target.files]);
      event.target.value = "";
    },
  });
  const drop = el("label", { class: "drop" }, "Drop pictures here, paste one, or choose: ", input);
  drop.addEventListener("dragover", (event) => {
    event.preventDefault();
    drop.classList.add("over");
  });
  drop.addEventListener("dragleave", () => drop.classList.remove("over"));
  drop.addEventListener("drop", (event) => {
    event.preventDefault();
    drop.classList.remove("over");
    add([...event.dataTransfer.files]);
  });
  const paste = (event) => add([...(event.clipboardData?.files ?? [])]);
  document.addEventListener("paste", paste);
  main.append(drop, options.bar, list);
  return { leave: () => document.removeEventListener("paste", paste) };
}

async function caption(job, part = null) {
  const { file, place, query, most } = job;
  const name = file.name || "a pasted picture";
  if (file.size > most) {
    place.replaceChildren(el("p", { class: "bad" }, `${name}: ${file.size} bytes; a picture may have ${most}. Send a smaller one.`));
    return;
  }
  if (!job.source) place.textContent = `${name}: captioning…`;
  try {
    const region = part ? `&region=${part.map((each) => each.toFixed(4)).join(",")}` : "";
    const found = await ask(`/api/caption?maps=true&${query}${region}`, { method: "POST", body: file });
    const again = Boolean(job.source);
    job.source ??= URL.createObjectURL(file);
    place.replaceChildren(described(found, job.source, name, { chosen: part, caption: (other) => caption(job, other) }));
    if (again) place.querySelector(".region summary").focus();
    notice("");
  } catch (error) {
    if (job.source) notice(error.message);
    else place.replaceChildren(el("p", { class: "bad" }, `${name}: ${error.message}`));
  }
}

/** How captions are made: searched with so many beams, or drawn with a seed; and what is asked of them. */
class Options {
  constructor(decode) {
    const number = (label, value, most) => {
      const input = el("input", { type: "number", min: label === "seed" ? 0 : 1, max: most, value });
      return [el("label", {}, label, input), input];
    };
    const [beams, beamSize] = number("beam size", decode.beam_size, 16);
    const [draws, samples] = number("samples", 3, 16);
    const [seeds, seed] = number("seed", 0, 2 ** 31 - 1);
    const [bests, best] = number("how many", 1, 16);
    const wishes = new Wishes();
    const show = (how) => {
      this.how = how;
      beams.hidden = bests.hidden = how !== "search";
      wishes.searches(how === "search");
      draws.hidden = seeds.hidden = how !== "draw";
    };
    const choice = el(
      "select",
      { change: (event) => show(event.target.value) },
      el("option", { value: "search" }, "the likeliest (beam search)"),
      el("option", { value: "draw" }, "drawn at random"),
    );
    this.query = () => {
      const how = this.how === "search"
        ? { beam_size: beamSize.value, n_best: best.value }
        : { samples: samples.value, seed: seed.value };
      return new URLSearchParams([...Object.entries(how), ...wishes.asked()]).toString();
    };
    const bar = el("div", { class: "bar" }, el("label", {}, "captions", choice), beams, bests, draws, seeds);
    this.bar = el("div", {}, bar, wishes.bar);
    show("search");
  }
}

/** What is asked of captions; a field that is empty asks nothing. */
class Wishes {
  constructor() {
    const number = () => el("input", { type: "number", min: 1, max: 100 });
    const text = (hint) => el("input", { type: "text", maxlength: 100, placeholder: hint });
    this.fields = {
      min_words: number(), max_words: number(), begin: text("there is"), must: text("dog, red ball"),
      must_not: text("man, woman"),
    };
    this.must = el("label", {}, "must contain", this.fields.must);
    this.bar = el(
      "details",
      { class: "wishes" },
      el("summary", {}, "What captions must and must not be"),
      el(
        "div",
        { class: "bar" },
        el("label", {}, "fewest words", this.fields.min_words),
        el("label", {}, "most words", this.fields.max_words),
        el("label", {}, "begin with", this.fields.begin),
        this.must,
        el("label", {}, "must not contain", this.fields.must_not),
      ),
    );
  }

  /** A draw cannot plan ahead, so only a search is asked for words. */
  searches(yes) {
    this.must.hidden = !yes;
  }

  /** [name, value] pairs of the query; texts are divided at commas. */
  asked() {
    return Object.entries(this.fields).flatMap(([name, field]) => {
      if (name === "must" && this.must.hidden) return [];
      const values = name.startsWith("must") ? field.value.split(",") : [field.value];
      return values.map((value) => [name, value.trim()]).filter(([, value]) => value);
    });
  }
}
