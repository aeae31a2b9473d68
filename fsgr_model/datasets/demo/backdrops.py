"""Paints each kind of background with its weather; no two backgrounds are the same.

A painter gets the pen, the horizon (unit coordinate y) and the scene's own random numbers.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageChops

from fsgr_model.datasets.demo.drawing import Pen, Rgb, arc_points, mix

WHITE = (252, 252, 252)
INK = (60, 56, 70)


class Grounds(NamedTuple):
    """The colours of what lies above the horizon and below it."""

    sky: Rgb
    ground: Rgb


def paint_backdrop(
    name: str, weather: str, horizon: float, side: int, *, rng: np.random.Generator
) -> Image.Image:
    """An RGB picture of the place without any object, `side` pixels square."""
    sky, ground = (_jitter(colour, rng) for colour in GROUNDS[name])
    image = _two_grounds(sky, ground, horizon, side)
    pen = Pen(image, INK, ink_width=0.006)
    WEATHER[weather](pen, horizon, rng)
    PAINTERS[name](pen, horizon, rng, Grounds(sky, ground))
    image = _blotches(image, rng)
    if weather == "snowing":
        _flakes(Pen(image, INK), rng)
    return image


def _jitter(colour: Rgb, rng: np.random.Generator, amount: int = 12) -> Rgb:
    return tuple(
        int(np.clip(value + shift, 0, 255))
        for value, shift in zip(colour, rng.integers(-amount, amount + 1, 3), strict=True)
    )


def _two_grounds(sky: Rgb, ground: Rgb, horizon: float, side: int) -> Image.Image:
    """Sky that grows lighter towards the horizon, ground that grows darker towards the viewer."""
    edge = round(horizon * side)
    above = np.linspace(sky, mix(sky, WHITE, 0.35), edge)
    below = np.linspace(ground, mix(ground, (30, 30, 40), 0.22), side - edge)
    pixels = np.concatenate([above, below]).astype(np.uint8)[:, None, :]
    return Image.fromarray(pixels).resize((side, side), Image.Resampling.NEAREST)


def _blotches(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Uneven paint: soft lighter and darker patches, a few levels of 255."""
    coarse = Image.fromarray(rng.integers(117, 140, (12, 12)).astype(np.uint8))
    soft = coarse.resize(image.size, Image.Resampling.BILINEAR)
    return ImageChops.add(image, Image.merge("RGB", (soft, soft, soft)), offset=-128)


def _clear(pen: Pen, horizon: float, rng: np.random.Generator) -> None:
    """Nothing in the sky."""


def _sunny(pen: Pen, horizon: float, rng: np.random.Generator) -> None:
    x, y = rng.choice([0.12, 0.88]) + rng.uniform(-0.04, 0.04), rng.uniform(0.1, 0.16)
    for radius, alpha in ((0.15, 50), (0.115, 90)):
        pen.ellipse((x, y), (radius, radius), fill=(255, 236, 150, alpha), outline=False)
    pen.ellipse((x, y), (0.08, 0.08), fill=(255, 222, 92), outline=False)


def _cloudy(pen: Pen, horizon: float, rng: np.random.Generator) -> None:
    for x in (0.18, 0.52, 0.86):
        x, y, size = x + rng.uniform(-0.08, 0.08), rng.uniform(0.07, 0.2), rng.uniform(0.06, 0.085)
        for dx, dy, share in ((-1.2, 0.2, 0.7), (0, -0.2, 1.0), (1.2, 0.2, 0.75), (0, 0.35, 0.8)):
            pen.ellipse(
                (x + dx * size, y + dy * size),
                (1.25 * share * size, share * size),
                fill=(238, 241, 246),
                outline=False,
            )


def _flakes(pen: Pen, rng: np.random.Generator) -> None:
    for x, y, size in rng.uniform((0, 0, 0.007), (1, 1, 0.013), (70, 3)):
        pen.ellipse((x, y), (size, size), fill=WHITE, outline=False)


def _hills(pen: Pen, horizon: float, rng: np.random.Generator, colour: Rgb, *, height: float = 0.12) -> None:
    for x in (0.1, 0.5, 0.92):
        tall = height * rng.uniform(0.5, 1)
        pen.polygon(
            arc_points(
                (x + rng.uniform(-0.1, 0.1), horizon + 0.005),
                (rng.uniform(0.24, 0.36), tall),
                start=180,
                end=360,
            ),
            colour,
            outline=False,
        )


def _meadow(pen: Pen, horizon: float, rng: np.random.Generator, grounds: Grounds) -> None:
    _hills(pen, horizon, rng, mix(grounds.ground, grounds.sky, 0.35))
    for x, y in rng.uniform((0, horizon + 0.04), (1, 1), (46, 2)):
        tall = 0.015 + 0.03 * (y - horizon)
        shade = (
            mix(grounds.ground, (20, 70, 30), 0.35)
            if rng.random() < 0.6
            else mix(grounds.ground, (230, 240, 120), 0.35)
        )
        for lean in (-0.6, 0, 0.6):
            pen.line([(x, y), (x + lean * tall, y - tall)], shade, 0.007)


def _beach(pen: Pen, horizon: float, rng: np.random.Generator, grounds: Grounds) -> None:
    sea = _jitter((44, 140, 186), rng)
    top = horizon - 0.17
    pen.polygon([(0, top), (1, top), (1, horizon + 0.01), (0, horizon + 0.01)], sea, outline=False)
    for x, y in rng.uniform((0, top + 0.02), (1, horizon - 0.03), (14, 2)):
        pen.line(arc_points((x, y), (0.03, 0.01), start=190, end=350), mix(sea, WHITE, 0.45), 0.007)
    waves = [(x, horizon + 0.012 * (-1) ** step) for step, x in enumerate(np.linspace(-0.05, 1.05, 12))]
    pen.curve(waves, (240, 250, 250), 0.026)
    for x, y in rng.uniform((0, horizon + 0.05), (1, 1), (60, 2)):
        pen.ellipse((x, y), (0.005, 0.004), fill=mix(grounds.ground, (120, 90, 40), 0.45), outline=False)


def _snow(pen: Pen, horizon: float, rng: np.random.Generator, grounds: Grounds) -> None:
    _hills(pen, horizon, rng, mix(grounds.ground, grounds.sky, 0.4), height=0.2)
    for x, y in rng.uniform((0, horizon + 0.06), (1, 1), (9, 2)):
        pen.curve(
            [(x - 0.1, y), (x, y - 0.018), (x + 0.1, y)], mix(grounds.ground, (120, 150, 200), 0.3), 0.009
        )


def _street(pen: Pen, horizon: float, rng: np.random.Generator, grounds: Grounds) -> None:
    left = -0.04
    while left < 1:
        width, tall = rng.uniform(0.12, 0.2), rng.uniform(0.14, 0.34)
        tower = mix(_jitter((142, 138, 160), rng), grounds.sky, 0.25)
        pen.polygon(
            [
                (left, horizon),
                (left, horizon - tall),
                (left + width, horizon - tall),
                (left + width, horizon),
            ],
            tower,
            outline=False,
        )
        for x in np.arange(left + 0.025, left + width - 0.03, 0.042):
            for y in np.arange(horizon - tall + 0.025, horizon - 0.04, 0.052):
                pane = (236, 218, 150) if rng.random() < 0.35 else mix(tower, (40, 40, 70), 0.3)
                pen.polygon(
                    [(x, y), (x + 0.02, y), (x + 0.02, y + 0.026), (x, y + 0.026)], pane, outline=False
                )
        left += width + rng.uniform(0, 0.015)
    pen.polygon(
        [(0, horizon), (1, horizon), (1, horizon + 0.06), (0, horizon + 0.06)], (196, 192, 186), outline=False
    )
    pen.line([(0, horizon + 0.06), (1, horizon + 0.06)], (120, 118, 120), 0.012)
    middle, shift = (horizon + 1.04) / 2, rng.uniform(0, 0.2)
    for x in np.arange(-0.2 + shift, 1.1, 0.24):
        pen.line([(x, middle), (x + 0.12, middle)], (240, 236, 214), 0.022)


def _room(pen: Pen, horizon: float, rng: np.random.Generator, grounds: Grounds) -> None:
    wall = _jitter(((232, 214, 190), (206, 222, 212), (222, 208, 224), (238, 224, 170))[rng.integers(4)], rng)
    pen.polygon([(0, 0), (1, 0), (1, horizon), (0, horizon)], wall, outline=False)
    for x in np.arange(rng.uniform(0, 0.1), 1, 0.1):
        pen.line([(x, 0), (x, horizon)], mix(wall, WHITE, 0.4), 0.022)
    x, y = rng.uniform(0.1, 0.6), rng.uniform(0.06, 0.1)
    pen.box((x, y), (x + 0.3, y + 0.24), fill=(250, 248, 240))
    for pane in (x + 0.02, x + 0.16):
        pen.box((pane, y + 0.02), (pane + 0.12, y + 0.22), fill=(170, 210, 236))
    pen.box((-0.1, horizon - 0.03), (1.1, horizon), fill=(244, 238, 226))
    for row, y in enumerate(np.linspace(horizon, 1, 7)):
        pen.line([(0, y), (1, y)], mix(grounds.ground, (50, 30, 20), 0.3), 0.007)
        for x in np.arange(0.4 * (row % 2) + 0.2, 1, 0.8):
            pen.line([(x, y), (x, y + (1 - horizon) / 6)], mix(grounds.ground, (50, 30, 20), 0.3), 0.007)


def _night(pen: Pen, horizon: float, rng: np.random.Generator, grounds: Grounds) -> None:
    for x, y, size in rng.uniform((0, 0, 0.004), (1, horizon, 0.011), (45, 3)):
        pen.ellipse((x, y), (size, size), fill=(255, 250, 214), outline=False)
    x, y = rng.choice([0.14, 0.86]) + rng.uniform(-0.04, 0.04), rng.uniform(0.12, 0.18)
    outer, inner = (
        arc_points((x, y), (0.085, 0.085), start=60, end=300),
        arc_points((x + 0.045, y), (0.075, 0.075), start=285, end=75),
    )
    pen.polygon([*outer, *inner], (255, 240, 176), outline=False)
    _hills(pen, horizon, rng, mix(grounds.ground, grounds.sky, 0.2), height=0.09)


GROUNDS: dict[str, tuple[Rgb, Rgb]] = {
    "meadow": ((136, 202, 240), (128, 190, 92)),
    "beach": ((150, 212, 242), (238, 214, 158)),
    "snow": ((176, 200, 226), (236, 241, 248)),
    "street": ((176, 208, 232), (128, 128, 134)),
    "room": ((226, 216, 200), (196, 150, 104)),
    "night sky": ((44, 56, 124), (70, 96, 122)),
}
PAINTERS: dict[str, Callable[[Pen, float, np.random.Generator, Grounds], None]] = {
    "meadow": _meadow,
    "beach": _beach,
    "snow": _snow,
    "street": _street,
    "room": _room,
    "night sky": _night,
}
WEATHER: dict[str, Callable[[Pen, float, np.random.Generator], None]] = {
    "clear": _clear,
    "sunny": _sunny,
    "cloudy": _cloudy,
    "snowing": _cloudy,
}
