// A part of the picture: drawn with the mouse or typed in per cent; captions then look at its patches only.
import { el } from "./dom.js";

const SIDES = ["left", "top", "right", "bottom"];
const LEAST = 0.02;

/**
 * The choice of a part of the picture that `canvas` covers.
 *
 * `holder` holds picture and canvas; `chosen` is the part that was captioned, or null for all of it; `caption` is
 * called with [left, top, right, bottom] from 0 to 1, or with null.
 */
export function regionOf(holder, canvas, chosen, caption) {
  const frame = el("div", { class: "frame", "aria-hidden": "true", hidden: true });
  const inputs = SIDES.map((side, place) => el("input", {
    type: "number", min: 0, max: 100, value: chosen ? Math.round(100 * chosen[place]) : place < 2 ? 0 : 100,
    input: () => show(read()),
  }));
  const read = () => inputs.map((input) => Number(input.value) / 100);

  function show([left, top, right, bottom]) {
    const within = (start, size, part) => `${parseFloat(start) + parseFloat(size) * part}%`;
    const { style } = canvas;
    frame.hidden = false;
    frame.style.left = within(style.left, style.width, left);
    frame.style.top = within(style.top, style.height, top);
    frame.style.width = within("0", style.width, Math.max(right - left, 0));
    frame.style.height = within("0", style.height, Math.max(bottom - top, 0));
  }

  function place(event) {
    const box = canvas.getBoundingClientRect();
    const part = (at, start, size) => Math.min(Math.max((at - start) / size, 0), 1);
    return [part(event.clientX, box.left, box.width), part(event.clientY, box.top, box.height)];
  }

  let start = null;
  const drawn = (event) => {
    const end = place(event);
    return [0, 1].map((axis) => Math.min(start[axis], end[axis]))
      .concat([0, 1].map((axis) => Math.max(start[axis], end[axis])));
  };
  holder.addEventListener("pointerdown", (event) => {
    // A finger scrolls; it can type the numbers.
    if (event.button !== 0 || event.pointerType === "touch") return;
    event.preventDefault();
    start = place(event);
    holder.setPointerCapture(event.pointerId);
  });
  holder.addEventListener("pointermove", (event) => start && show(drawn(event)));
  holder.addEventListener("pointerup", (event) => {
    if (!start) return;
    const part = drawn(event);
    start = null;
    if (part[2] - part[0] > LEAST && part[3] - part[1] > LEAST) caption(part);
  });
  holder.append(frame);
  if (chosen) show(chosen);
  return el(
    "details",
    { class: "region", open: chosen !== null },
    el("summary", {}, "A part of the picture: draw it, or type per cent"),
    el(
      "div",
      { class: "bar" },
      ...inputs.map((input, number) => el("label", {}, SIDES[number], input)),
      el("button", { type: "button", click: () => caption(read()) }, "caption this part"),
      el("button", { type: "button", click: () => caption(null) }, "the whole picture"),
    ),
  );
}
