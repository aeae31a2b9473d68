// A line plot as SVG, with a legend where there are several lines.
import { el } from "./dom.js";

const [WIDTH, HEIGHT] = [340, 200];
const EDGE = { left: 46, right: 8, top: 8, bottom: 22 };
const COLOURS = ["#2a78d0", "#c2571a", "#2e9050", "#964ac6", "#c03a7c", "#7a8a1a", "#108a92", "#8a6a3a"];

/** `lines`: {name, x, y}, lists of numbers; a `null` in y leaves a gap. */
export function plot(title, lines) {
  const points = lines.map(({ x, y }) => x.map((at, place) => [at, y[place]]).filter(([, value]) => value !== null));
  const all = points.flat();
  const scale = {
    x: scaled(all.map(([x]) => x), EDGE.left, WIDTH - EDGE.right),
    y: scaled(all.map(([, y]) => y), HEIGHT - EDGE.bottom, EDGE.top),
  };
  const drawn = svg("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": described(title, lines, points) });
  for (const value of ticks(scale.y)) {
    const y = scale.y.at(value);
    drawn.append(svg("line", { class: "axis", x1: EDGE.left, x2: WIDTH - EDGE.right, y1: y, y2: y }));
    drawn.append(svg("text", { x: EDGE.left - 5, y: y + 4, "text-anchor": "end" }, short(value)));
  }
  const epochs = ticks(scale.x).map(Math.round).filter((value) => value >= scale.x.low && value <= scale.x.high);
  for (const value of new Set(epochs)) {
    drawn.append(svg("text", { x: scale.x.at(value), y: HEIGHT - 6, "text-anchor": "middle" }, value));
  }
  points.forEach((of, number) => {
    const colour = COLOURS[number % COLOURS.length];
    const path = of.map(([x, y]) => `${scale.x.at(x).toFixed(1)},${scale.y.at(y).toFixed(1)}`).join(" ");
    drawn.append(svg("polyline", { class: "line", points: path, stroke: colour }));
    for (const [x, y] of of) drawn.append(svg("circle", { cx: scale.x.at(x), cy: scale.y.at(y), r: 2.5, fill: colour }));
  });
  const names = lines.map(({ name }, number) => {
    const swatch = el("span", { class: "swatch" });
    swatch.style.background = COLOURS[number % COLOURS.length];
    return el("li", {}, swatch, name);
  });
  return el("div", { class: "plot card" }, el("h2", {}, title), drawn,
    names.length > 1 ? el("ul", { class: "legend" }, ...names) : null);
}

function described(title, lines, points) {
  const ends = lines.map(({ name }, number) => {
    const last = points[number].at(-1);
    return last ? `${name} ends at ${Number(last[1].toPrecision(4))}` : `${name} has no value`;
  });
  return `${title} by epoch: ${ends.join(", ")}`;
}

function scaled(values, from, to) {
  let [low, high] = [Math.min(...values), Math.max(...values)];
  if (!values.length) [low, high] = [0, 1];
  if (low === high) [low, high] = [low - 0.5, high + 0.5];
  return { low, high, at: (value) => from + ((value - low) / (high - low)) * (to - from) };
}

const ticks = ({ low, high }) => [0, 1, 2, 3].map((step) => low + (step * (high - low)) / 3);

function short(value) {
  const small = value !== 0 && Math.abs(value) < 0.001;
  return small ? value.toExponential(1) : Number(value.toPrecision(3));
}

function svg(name, attributes, text) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  if (text !== undefined) made.textContent = text;
  return made;
}
