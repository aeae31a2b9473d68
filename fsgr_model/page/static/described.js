// A captioned picture: its captions word by word, and maps of its patches laid over it.
import { el } from "./dom.js";
import { regionOf } from "./region.js";

// Far apart in hue, and in lightness where hues are close.
const PALETTE = ["#e23b3b", "#2678de", "#f9b71d", "#2ea04d", "#964ac6", "#19bec8", "#f3781d", "#e85caa", "#8ccd32",
  "#805430", "#3c3c8c", "#78828c"];
let layers = 0;

/**
 * What `/api/caption?maps=true` found, beside the picture at `source`. `region`, where a part of the picture can be
 * captioned: the part that was (null: all), and what to call with another.
 */
export function described(found, source, name, region = null) {
  const canvas = el("canvas", { "aria-hidden": "true" });
  const image = el("img", { src: source, alt: name, draggable: "false" });
  const legend = el("ul", { class: "legend" });
  const maps = new Maps(found, canvas, legend);
  image.addEventListener("error", () => {
    image.alt = `${name} (the browser cannot show this kind of picture)`;
  });
  maps.place();
  const words = found.captions.map((caption, number) => captionOf(caption, found.attention[number], maps));
  const holder = el("div", { class: "picture" }, image, canvas);
  const part = region && regionOf(holder, canvas, region.chosen, region.caption);
  return el(
    "div",
    { class: "tried" },
    holder,
    el("div", {}, ...words, maps.choice(), legend, part, el("p", { class: "quiet" }, `${name}, ${found.width} × ${found.height}`)),
  );
}

function captionOf(caption, attention, maps) {
  const words = caption.words.map((word, place) => {
    const look = () => maps.showAttention(attention[place], button);
    const percent = `${Math.round(100 * word.probability)}%`;
    const button = el(
      "button",
      {
        class: "word",
        type: "button",
        "aria-pressed": "false",
        title: "where the network looked when it chose this word",
        mouseenter: look,
        mouseleave: () => maps.showLayer(),
        focus: look,
        blur: () => maps.showLayer(),
        click: look,
      },
      el("bdi", {}, word.text),
      el("small", { dir: "ltr" }, percent),
    );
    button.style.borderBottomColor = `color-mix(in srgb, var(--accent) ${percent}, transparent)`;
    return button;
  });
  const whole = Math.exp(caption.log_probability);
  const shown = whole >= 0.001 ? whole.toFixed(3) : whole.toExponential(1);
  return el(
    "div", { class: "caption" },
    el("p", { dir: "auto" }, ...words),
    el("small", { class: "quiet" }, `probability ${shown}`),
  );
}

/** The canvas over a picture: a layer of concepts, or the attention of a word. */
class Maps {
  constructor(found, canvas, legend) {
    Object.assign(this, { found, canvas, legend, layer: "none", pressed: null });
  }

  /** The maps cover the whole picture, or the square in its middle if CLIP saw only that. */
  place() {
    const { width, height, centre_only: centre } = this.found;
    const side = Math.min(width, height);
    const [wide, high] = centre ? [side / width, side / height] : [1, 1];
    const style = this.canvas.style;
    style.left = `${50 * (1 - wide)}%`;
    style.top = `${50 * (1 - high)}%`;
    style.width = `${100 * wide}%`;
    style.height = `${100 * high}%`;
  }

  choice() {
    layers += 1;
    const radio = (value, text) =>
      el("label", {}, el("input", {
        type: "radio", name: `layer${layers}`, value, checked: value === "none",
        change: () => {
          this.layer = value;
          this.showLayer();
        },
      }), ` ${text}`);
    const choices = [radio("none", "the picture"), radio("labels", "label map")];
    if (this.found.concepts) choices.push(radio("concepts", "what the network saw"));
    return el("fieldset", {}, el("legend", {}, "Layer"), ...choices);
  }

  showAttention(map, button) {
    this.press(button);
    const most = Math.max(...map.flat());
    this.paint(map, (value) => [0, 0, 0, Math.round(215 * (1 - value / most))], true);
  }

  showLayer() {
    this.press(null);
    const map = this.layer === "none" ? null : this.found[this.layer];
    const colours = map ? this.colours(map) : new Map();
    this.legend.replaceChildren(...[...colours].map(([id, colour]) => {
      const swatch = el("span", { class: "swatch" });
      swatch.style.background = colour;
      return el("li", {}, swatch, el("bdi", {}, this.found.names[id]));
    }));
    if (!map) {
      this.canvas.getContext("2d").clearRect(0, 0, this.canvas.width, this.canvas.height);
      return;
    }
    this.paint(map, (id) => {
      const colour = parseInt(colours.get(id).slice(1), 16);
      return [colour >> 16, (colour >> 8) & 255, colour & 255, 150];
    }, false);
  }

  /** A colour for each concept of a map, the most frequent first. */
  colours(map) {
    const counts = new Map();
    for (const id of map.flat()) counts.set(id, (counts.get(id) ?? 0) + 1);
    const ids = [...counts.keys()].sort((a, b) => counts.get(b) - counts.get(a) || a - b);
    return new Map(ids.map((id, place) => [id, PALETTE[place % PALETTE.length]]));
  }

  paint(map, colourOf, smooth) {
    const [rows, columns] = [map.length, map[0].length];
    const small = new OffscreenCanvas(columns, rows);
    const pixels = new ImageData(columns, rows);
    map.flat().forEach((value, place) => pixels.data.set(colourOf(value), 4 * place));
    small.getContext("2d").putImageData(pixels, 0, 0);
    this.canvas.width = 448;
    this.canvas.height = Math.round((448 * rows) / columns);
    const context = this.canvas.getContext("2d");
    context.imageSmoothingEnabled = smooth;
    context.drawImage(small, 0, 0, this.canvas.width, this.canvas.height);
  }

  press(button) {
    this.pressed?.setAttribute("aria-pressed", "false");
    button?.setAttribute("aria-pressed", "true");
    this.pressed = button;
  }
}
