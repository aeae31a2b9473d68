"""A pen that draws smooth outlined shapes in unit coordinates, and the tones of a colour.

Unit coordinates: x to the right and y down, both from 0 to 1 over the drawing's side.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from PIL import Image, ImageDraw

Point = tuple[float, float]
Rgb = tuple[int, ...]


@dataclass(frozen=True)
class Tones:
    """One colour as a painter uses it: plain, in shadow, in light, and as outline."""

    base: Rgb
    dark: Rgb
    light: Rgb
    ink: Rgb


def mix(one: Rgb, other: Rgb, share: float) -> Rgb:
    """Mix `share` of the other colour into the first."""
    return tuple(round(a + (b - a) * share) for a, b in zip(one, other, strict=True))


def tones_of(base: Rgb) -> Tones:
    """Shadow, light and outline that go with a colour (0 to 255 per channel)."""
    return Tones(
        base, mix(base, (0, 0, 0), 0.26), mix(base, (255, 255, 250), 0.45), mix(base, (18, 14, 28), 0.72)
    )


class Pen:
    """Draws on one square image; every shape is a polygon filled and outlined."""

    def __init__(self, image: Image.Image, ink: Rgb, ink_width: float = 0.022) -> None:
        self.image = image
        self.side = image.width
        self.ink = ink
        self.ink_width = ink_width
        self._draw = ImageDraw.Draw(image, "RGBA" if image.mode == "RGB" else None)

    def polygon(self, points: Sequence[Point], fill: Rgb | None, outline: bool = True) -> None:
        """A closed shape with straight edges."""
        pixels = [(x * self.side, y * self.side) for x, y in points]
        if fill is not None:
            self._draw.polygon(pixels, fill=fill)
        if outline:
            self._stroke([*pixels, pixels[0], pixels[1]], self.ink, self.ink_width)

    def blob(self, points: Sequence[Point], fill: Rgb | None, outline: bool = True) -> None:
        """A closed smooth curve through the points."""
        self.polygon(smooth(points, closed=True), fill, outline)

    def ellipse(
        self,
        centre: Point,
        radii: Point,
        *,
        fill: Rgb | None,
        outline: bool = True,
        turn: float = 0,
    ) -> None:
        """An ellipse around its centre, turned by `turn` degrees."""
        self.polygon(arc_points(centre, radii, start=0, end=360, turn=turn), fill, outline)

    def box(self, corner: Point, opposite: Point, *, fill: Rgb, radius: float = 0.0) -> None:
        """An upright rectangle with rounded corners, from the upper left corner to the lower right."""
        (x0, y0), (x1, y1) = corner, opposite
        if radius <= 0:
            self.polygon([(x0, y0), (x1, y0), (x1, y1), (x0, y1)], fill)
            return
        corners = [(x1 - radius, y0 + radius, 270), (x1 - radius, y1 - radius, 0)]
        corners += [(x0 + radius, y1 - radius, 90), (x0 + radius, y0 + radius, 180)]
        self.polygon(
            [p for x, y, a in corners for p in arc_points((x, y), (radius, radius), start=a, end=a + 90)],
            fill,
        )

    def line(self, points: Sequence[Point], colour: Rgb, width: float) -> None:
        """An open line with straight pieces and round ends."""
        self._stroke([(x * self.side, y * self.side) for x, y in points], colour, width)

    def curve(self, points: Sequence[Point], colour: Rgb, width: float) -> None:
        """An open smooth line through the points."""
        self.line(smooth(points, closed=False), colour, width)

    def rod(self, points: Sequence[Point], colour: Rgb, width: float) -> None:
        """An outlined smooth line: a tail, a handle, a pole."""
        path = smooth(points, closed=False)
        self.line(path, self.ink, width + 1.6 * self.ink_width)
        self.line(path, colour, width)

    def _stroke(self, pixels: Sequence[Point], colour: Rgb, width: float) -> None:
        wide = max(1, round(width * self.side))
        self._draw.line(list(pixels), fill=colour, width=wide, joint="curve")
        if wide > 2:
            for x, y in (pixels[0], pixels[-1]):
                radius = wide / 2 - 0.5
                self._draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=colour)


def arc_points(centre: Point, radii: Point, *, start: float, end: float, turn: float = 0) -> list[Point]:
    """Points on an elliptic arc from `start` to `end` degrees, clockwise from the right, turned by `turn`."""
    cos, sin = math.cos(math.radians(turn)), math.sin(math.radians(turn))
    circle = _unit_arc(start, end)
    (x, y), (u, v) = centre, (radii[0] * circle[0], radii[1] * circle[1])
    return list(zip((x + u * cos - v * sin).tolist(), (y + u * sin + v * cos).tolist(), strict=True))


@cache
def _unit_arc(start: float, end: float) -> tuple[np.ndarray, np.ndarray]:
    """Cosines and sines of the angles of an arc; the drawings use about a dozen, thousands of times each."""
    angles = np.radians(np.linspace(start, end, max(5, round(abs(end - start) / 9) + 1)))
    return np.cos(angles), np.sin(angles)


def smooth(points: Sequence[Point], closed: bool, steps: int = 7) -> list[Point]:
    """A Catmull-Rom curve through the points."""
    path = np.asarray(points, dtype=np.float64)
    ends = (path[-1:], path[:2]) if closed else (path[:1], path[-1:])
    padded = np.concatenate([ends[0], path, ends[1]])
    share = np.linspace(0, 1, steps, endpoint=False)[:, None]
    pieces = [_catmull_rom(padded[start : start + 4], share) for start in range(len(padded) - 3)]
    curve = np.concatenate(pieces if closed else [*pieces, path[-1:]])
    return [(float(x), float(y)) for x, y in curve]


def _catmull_rom(four: np.ndarray, share: np.ndarray) -> np.ndarray:
    before, start, end, after = four
    cubic = -before + 3 * start - 3 * end + after
    square = 2 * before - 5 * start + 4 * end - after
    return 0.5 * (2 * start + (end - before) * share + square * share**2 + cubic * share**3)
