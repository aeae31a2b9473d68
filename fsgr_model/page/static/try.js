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

async function caption({ file, place, query, most }) {
  const name = file.name || "a pasted picture";
  if (file.size > most) {
    place.replaceChildren(el("p", { class: "bad" }, `${name}: ${file.size} bytes; a picture may have ${most}. Send a smaller one.`));
    return;
  }
  place.textContent = `${name}: captioning…`;
  try {
    const found = await ask(`/api/caption?maps=true&${query}`, { method: "POST", body: file });
    place.replaceChildren(described(found, URL.createObjectURL(file), name));
    notice("");
  } catch (error) {
    place.replaceChildren(el("p", { class: "bad" }, `${name}: ${error.message}`));
  }
}

/** How captions are made: searched with so many beams, or drawn with a seed. */
class Options {
  constructor(decode) {
    const number = (label, value, most) => {
      const input = el("input", { type: "number", min: label === "seed" ? 0 : 1, max: most, value });
      return [el("label", {}, label, input), input];
    };
    const [beams, beamSize] = number("beam size", decode.beam_size, 16);
    const [draws, samples] = number("samples", 3, 16);
    const [seeds, seed] = number("seed", 0, 2 ** 31 - 1);
    const show = (how) => {
      this.how = how;
      beams.hidden = how !== "search";
      draws.hidden = seeds.hidden = how !== "draw";
    };
    const choice = el(
      "select",
      { change: (event) => show(event.target.value) },
      el("option", { value: "search" }, "the likeliest (beam search)"),
      el("option", { value: "draw" }, "drawn at random"),
    );
    this.query = () =>
      this.how === "search"
        ? `beam_size=${beamSize.value}`
        : `samples=${samples.value}&seed=${seed.value}`;
    this.bar = el("div", { class: "bar" }, el("label", {}, "captions", choice), beams, draws, seeds);
    show("search");
  }
}
