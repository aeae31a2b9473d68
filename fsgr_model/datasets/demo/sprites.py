"""Draws each kind of object: a function per kind draws its shapes with a pen in the tones of a colour.

A drawing fills the unit square; its colour covers most of it, so that a person would name that colour.
"""

from collections.abc import Callable

from fsgr_model.datasets.demo.drawing import Pen, Tones, arc_points

WHITE = (250, 249, 244)
CREAM = (247, 236, 205)
GLASS = (196, 226, 240)
GREY = (150, 152, 160)
COAL = (44, 44, 52)
WOOD = (134, 92, 58)
LEAF = (78, 148, 62)
SUN = (255, 214, 84)
BEAK = (244, 150, 40)


def house(pen: Pen, tone: Tones) -> None:
    pen.box((0.66, 0.12), (0.78, 0.4), fill=tone.dark)
    pen.box((0.13, 0.44), (0.87, 0.98), fill=tone.base)
    pen.polygon([(0.02, 0.48), (0.5, 0.06), (0.98, 0.48)], tone.dark)
    pen.box((0.42, 0.66), (0.6, 0.98), fill=WOOD)
    pen.ellipse((0.56, 0.83), (0.016, 0.016), fill=SUN, outline=False)
    for x in (0.2, 0.68):
        pen.box((x, 0.58), (x + 0.13, 0.74), fill=SUN)
        pen.line([(x + 0.065, 0.58), (x + 0.065, 0.74)], pen.ink, 0.016)
        pen.line([(x, 0.66), (x + 0.13, 0.66)], pen.ink, 0.016)
    pen.ellipse((0.5, 0.33), (0.07, 0.07), fill=GLASS)


def tree(pen: Pen, tone: Tones) -> None:
    pen.polygon([(0.43, 0.55), (0.57, 0.55), (0.6, 0.9), (0.67, 0.98), (0.33, 0.98), (0.4, 0.9)], WOOD)
    puffs = [(0.28, 0.5, 0.2), (0.72, 0.5, 0.2), (0.24, 0.32, 0.18), (0.76, 0.32, 0.18), (0.5, 0.24, 0.22)]
    puffs += [(0.5, 0.48, 0.24)]
    for x, y, r in puffs:
        pen.ellipse((x, y), (r + 0.02, r + 0.02), fill=pen.ink, outline=False)
    for x, y, r in puffs:
        pen.ellipse((x, y), (r, r), fill=tone.base, outline=False)
    for x, y, r in [(0.42, 0.2, 0.1), (0.24, 0.32, 0.08), (0.6, 0.42, 0.09)]:
        pen.ellipse((x, y), (r, r * 0.8), fill=tone.light, outline=False)
    for x, y in [(0.34, 0.55), (0.72, 0.56), (0.78, 0.36), (0.5, 0.58)]:
        pen.line(arc_points((x, y), (0.06, 0.05), start=20, end=160), tone.dark, 0.022)


def car(pen: Pen, tone: Tones) -> None:
    pen.blob([(0.2, 0.54), (0.3, 0.3), (0.5, 0.25), (0.68, 0.3), (0.83, 0.54), (0.5, 0.58)], tone.base)
    pen.polygon([(0.27, 0.52), (0.34, 0.34), (0.48, 0.32), (0.48, 0.52)], GLASS)
    pen.polygon([(0.53, 0.52), (0.53, 0.32), (0.65, 0.34), (0.75, 0.52)], GLASS)
    pen.box((0.03, 0.5), (0.97, 0.78), fill=tone.base, radius=0.1)
    pen.line([(0.06, 0.68), (0.94, 0.68)], tone.dark, 0.03)
    pen.line([(0.5, 0.54), (0.5, 0.74)], pen.ink, 0.014)
    pen.line([(0.55, 0.59), (0.63, 0.59)], pen.ink, 0.02)
    pen.ellipse((0.92, 0.6), (0.035, 0.045), fill=SUN)
    for x in (0.25, 0.75):
        pen.ellipse((x, 0.78), (0.135, 0.135), fill=COAL)
        pen.ellipse((x, 0.78), (0.06, 0.06), fill=(205, 206, 212))


def boat(pen: Pen, tone: Tones) -> None:
    pen.line([(0.5, 0.04), (0.5, 0.72)], WOOD, 0.04)
    pen.blob([(0.55, 0.08), (0.78, 0.34), (0.92, 0.62), (0.55, 0.62)], WHITE)
    pen.blob([(0.46, 0.14), (0.28, 0.38), (0.12, 0.62), (0.46, 0.62)], tone.light)
    pen.polygon([(0.02, 0.68), (0.98, 0.68), (0.82, 0.94), (0.2, 0.94)], tone.base)
    pen.line([(0.06, 0.75), (0.94, 0.75)], tone.light, 0.03)
    for x in (0.3, 0.5, 0.7):
        pen.ellipse((x, 0.84), (0.035, 0.035), fill=GLASS)
    pen.polygon([(0.5, 0.03), (0.66, 0.07), (0.5, 0.12)], tone.base)


def bicycle(pen: Pen, tone: Tones) -> None:
    for x in (0.22, 0.78):
        pen.ellipse((x, 0.7), (0.2, 0.2), fill=(*WHITE, 110), outline=False)
        pen.line(arc_points((x, 0.7), (0.2, 0.2), start=0, end=360), COAL, 0.036)
        pen.line(arc_points((x, 0.7), (0.165, 0.165), start=0, end=360), tone.base, 0.036)
        for angle in (0, 60, 120):
            ends = arc_points((x, 0.7), (0.15, 0.15), start=angle, end=angle + 180)
            pen.line([ends[0], ends[-1]], GREY, 0.012)
    frame = [(0.22, 0.7), (0.36, 0.42), (0.68, 0.4), (0.46, 0.7), (0.22, 0.7)]
    for path in (frame, [(0.46, 0.7), (0.34, 0.34)], [(0.78, 0.7), (0.66, 0.3)]):
        pen.line(path, pen.ink, 0.1)
    for path in (frame, [(0.46, 0.7), (0.34, 0.34)], [(0.78, 0.7), (0.66, 0.3)]):
        pen.line(path, tone.base, 0.07)
    pen.rod([(0.66, 0.3), (0.7, 0.25), (0.8, 0.27), (0.82, 0.33)], COAL, 0.03)
    pen.ellipse((0.33, 0.32), (0.1, 0.035), fill=COAL)
    pen.ellipse((0.46, 0.7), (0.05, 0.05), fill=GREY)


def dog(pen: Pen, tone: Tones) -> None:
    pen.rod([(0.16, 0.52), (0.06, 0.4), (0.07, 0.26)], tone.base, 0.06)
    for x in (0.24, 0.56):
        pen.box((x, 0.64), (x + 0.1, 0.96), fill=tone.dark, radius=0.04)
    pen.blob(
        [(0.12, 0.54), (0.28, 0.44), (0.56, 0.44), (0.7, 0.5), (0.68, 0.7), (0.4, 0.74), (0.16, 0.72)],
        tone.base,
    )
    for x in (0.14, 0.6):
        pen.box((x, 0.64), (x + 0.11, 0.98), fill=tone.base, radius=0.045)
    pen.ellipse((0.88, 0.38), (0.11, 0.085), fill=tone.base)
    pen.ellipse((0.71, 0.32), (0.17, 0.17), fill=tone.base)
    pen.ellipse((0.87, 0.375), (0.09, 0.066), fill=tone.base, outline=False)
    pen.ellipse((0.965, 0.35), (0.035, 0.03), fill=COAL, outline=False)
    pen.curve([(0.85, 0.43), (0.9, 0.43), (0.94, 0.4)], pen.ink, 0.018)
    pen.blob([(0.58, 0.18), (0.68, 0.22), (0.66, 0.42), (0.56, 0.5), (0.51, 0.36)], tone.dark)
    pen.ellipse((0.77, 0.28), (0.03, 0.036), fill=WHITE, outline=False)
    pen.ellipse((0.78, 0.285), (0.018, 0.022), fill=COAL, outline=False)
    pen.line([(0.62, 0.5), (0.76, 0.49)], (214, 70, 60), 0.045)


def cat(pen: Pen, tone: Tones) -> None:
    pen.rod([(0.66, 0.9), (0.86, 0.88), (0.92, 0.7), (0.84, 0.56)], tone.base, 0.075)
    pen.blob([(0.36, 0.5), (0.64, 0.5), (0.76, 0.8), (0.7, 0.97), (0.3, 0.97), (0.24, 0.8)], tone.base)
    for x in (0.4, 0.6):
        pen.ellipse((x, 0.93), (0.09, 0.05), fill=tone.light)
    pen.line([(0.5, 0.74), (0.5, 0.93)], pen.ink, 0.016)
    pen.polygon([(0.24, 0.3), (0.25, 0.04), (0.46, 0.17)], tone.base)
    pen.polygon([(0.76, 0.3), (0.75, 0.04), (0.54, 0.17)], tone.base)
    pen.polygon([(0.29, 0.22), (0.29, 0.11), (0.38, 0.17)], (238, 160, 160), outline=False)
    pen.polygon([(0.71, 0.22), (0.71, 0.11), (0.62, 0.17)], (238, 160, 160), outline=False)
    pen.ellipse((0.5, 0.36), (0.29, 0.24), fill=tone.base)
    for x in (0.38, 0.62):
        pen.ellipse((x, 0.34), (0.055, 0.06), fill=(176, 214, 92))
        pen.ellipse((x, 0.34), (0.018, 0.05), fill=COAL, outline=False)
    pen.polygon([(0.46, 0.42), (0.54, 0.42), (0.5, 0.47)], (232, 130, 140))
    pen.curve([(0.42, 0.5), (0.46, 0.52), (0.5, 0.47), (0.54, 0.52), (0.58, 0.5)], pen.ink, 0.016)
    for y in (0.44, 0.5):
        pen.line([(0.32, y), (0.12, y + (y - 0.47))], tone.ink, 0.014)
        pen.line([(0.68, y), (0.88, y + (y - 0.47))], tone.ink, 0.014)


def bird(pen: Pen, tone: Tones) -> None:
    pen.polygon([(0.24, 0.56), (0.02, 0.5), (0.05, 0.62), (0.02, 0.72), (0.26, 0.66)], tone.dark)
    pen.blob([(0.44, 0.5), (0.3, 0.22), (0.34, 0.06), (0.52, 0.2), (0.62, 0.46)], tone.dark)
    pen.polygon([(0.86, 0.42), (0.99, 0.47), (0.86, 0.52)], BEAK)
    pen.blob(
        [
            (0.2, 0.6),
            (0.44, 0.46),
            (0.62, 0.42),
            (0.74, 0.32),
            (0.88, 0.42),
            (0.82, 0.6),
            (0.58, 0.76),
            (0.36, 0.72),
        ],
        tone.base,
    )
    pen.blob([(0.62, 0.72), (0.76, 0.6), (0.7, 0.7)], tone.light, outline=False)
    pen.blob([(0.58, 0.5), (0.36, 0.42), (0.16, 0.2), (0.22, 0.46), (0.4, 0.64), (0.54, 0.62)], tone.light)
    pen.curve([(0.28, 0.4), (0.4, 0.5), (0.5, 0.53)], pen.ink, 0.014)
    pen.ellipse((0.77, 0.43), (0.036, 0.036), fill=WHITE, outline=False)
    pen.ellipse((0.78, 0.43), (0.022, 0.022), fill=COAL, outline=False)


def fish(pen: Pen, tone: Tones) -> None:
    pen.blob([(0.3, 0.5), (0.1, 0.28), (0.03, 0.3), (0.1, 0.5), (0.03, 0.7), (0.1, 0.72)], tone.dark)
    pen.blob([(0.42, 0.36), (0.52, 0.16), (0.7, 0.2), (0.7, 0.36)], tone.dark)
    pen.blob([(0.46, 0.64), (0.5, 0.82), (0.62, 0.78), (0.64, 0.66)], tone.dark)
    pen.blob(
        [
            (0.24, 0.5),
            (0.44, 0.32),
            (0.7, 0.3),
            (0.9, 0.42),
            (0.97, 0.52),
            (0.88, 0.62),
            (0.66, 0.7),
            (0.42, 0.68),
        ],
        tone.base,
    )
    for x in (0.4, 0.53):
        for y in (0.42, 0.52, 0.61):
            pen.line(arc_points((x, y), (0.05, 0.05), start=270, end=450), tone.light, 0.02)
    pen.curve([(0.7, 0.34), (0.64, 0.5), (0.7, 0.66)], pen.ink, 0.018)
    pen.ellipse((0.81, 0.45), (0.045, 0.045), fill=WHITE)
    pen.ellipse((0.82, 0.45), (0.02, 0.02), fill=COAL, outline=False)
    pen.curve([(0.95, 0.56), (0.9, 0.58), (0.87, 0.56)], pen.ink, 0.018)


def umbrella(pen: Pen, tone: Tones) -> None:
    pen.rod([(0.5, 0.1), (0.5, 0.5), (0.5, 0.86), (0.43, 0.95), (0.36, 0.88)], WOOD, 0.04)
    pen.line([(0.5, 0.02), (0.5, 0.12)], COAL, 0.035)
    dome = arc_points((0.5, 0.5), (0.47, 0.42), start=180, end=360)
    scallops = [
        p
        for x in (0.852, 0.617, 0.383, 0.148)
        for p in arc_points((x, 0.5), (0.118, 0.07), start=0, end=-180)
    ]
    pen.polygon([*dome, *scallops], tone.base)
    middle = [
        (0.5, 0.08),
        *arc_points((0.617, 0.5), (0.118, 0.07), start=0, end=-180),
        *arc_points((0.383, 0.5), (0.118, 0.07), start=0, end=-180),
    ]
    pen.polygon(middle, tone.light)
    pen.curve([(0.5, 0.08), (0.5, 0.5)], pen.ink, 0.018)
    pen.polygon([*dome, *scallops], None)


def balloon(pen: Pen, tone: Tones) -> None:
    pen.curve([(0.5, 0.66), (0.54, 0.76), (0.46, 0.86), (0.5, 0.99)], (236, 232, 226), 0.034)
    pen.curve([(0.5, 0.66), (0.54, 0.76), (0.46, 0.86), (0.5, 0.99)], (90, 86, 92), 0.014)
    pen.polygon([(0.5, 0.6), (0.57, 0.69), (0.43, 0.69)], tone.dark)
    pen.blob(
        [
            (0.5, 0.02),
            (0.74, 0.12),
            (0.79, 0.34),
            (0.66, 0.54),
            (0.5, 0.63),
            (0.34, 0.54),
            (0.21, 0.34),
            (0.26, 0.12),
        ],
        tone.base,
    )
    pen.ellipse((0.38, 0.2), (0.05, 0.1), fill=tone.light, outline=False, turn=28)
    pen.line(arc_points((0.5, 0.33), (0.22, 0.24), start=20, end=80), tone.dark, 0.026)


def kite(pen: Pen, tone: Tones) -> None:
    tail = [(0.46, 0.66), (0.38, 0.76), (0.5, 0.84), (0.36, 0.97)]
    pen.curve(tail, (242, 240, 236), 0.03)
    pen.curve(tail, COAL, 0.014)
    for x, y in ((0.4, 0.77), (0.46, 0.87)):
        pen.polygon([(x, y), (x - 0.09, y - 0.05), (x - 0.08, y + 0.06)], tone.base)
        pen.polygon([(x, y), (x + 0.09, y - 0.05), (x + 0.08, y + 0.06)], tone.base)
    top, right, bottom, left, middle = (0.58, 0.02), (0.9, 0.3), (0.44, 0.68), (0.16, 0.2), (0.53, 0.25)
    pen.polygon([top, right, middle], tone.base)
    pen.polygon([right, bottom, middle], tone.dark)
    pen.polygon([bottom, left, middle], tone.base)
    pen.polygon([left, top, middle], tone.light)


def ball(pen: Pen, tone: Tones) -> None:
    pen.ellipse((0.5, 0.5), (0.46, 0.46), fill=tone.base)
    band = [
        *arc_points((0.5, 0.36), (0.46, 0.2), start=168, end=12),
        *arc_points((0.5, 0.52), (0.455, 0.2), start=12, end=168),
    ]
    pen.polygon(band, WHITE)
    pen.ellipse((0.33, 0.22), (0.09, 0.055), fill=tone.light, outline=False, turn=-30)
    pen.line(arc_points((0.5, 0.5), (0.4, 0.4), start=35, end=95), tone.dark, 0.03)
    pen.ellipse((0.5, 0.5), (0.46, 0.46), fill=None)


def flower(pen: Pen, tone: Tones) -> None:
    pen.rod([(0.5, 0.4), (0.51, 0.7), (0.49, 0.98)], LEAF, 0.045)
    pen.ellipse((0.63, 0.8), (0.14, 0.055), fill=LEAF, turn=-32)
    pen.ellipse((0.37, 0.86), (0.14, 0.055), fill=LEAF, turn=32)
    for step in range(8):
        (x, y) = arc_points((0.5, 0.31), (0.19, 0.19), start=step * 45, end=step * 45 + 9)[0]
        pen.ellipse((x, y), (0.115, 0.085), fill=tone.base, turn=step * 45)
    pen.ellipse(
        (0.5, 0.32), (0.105, 0.105), fill=WOOD if min(tone.base[:2]) > 150 and tone.base[2] < 120 else SUN
    )
    for x, y in ((0.47, 0.3), (0.53, 0.3), (0.5, 0.35)):
        pen.ellipse((x, y), (0.014, 0.014), fill=pen.ink, outline=False)


def mushroom(pen: Pen, tone: Tones) -> None:
    pen.blob([(0.38, 0.5), (0.62, 0.5), (0.66, 0.8), (0.68, 0.96), (0.32, 0.96), (0.34, 0.8)], CREAM)
    cap = [
        *arc_points((0.5, 0.52), (0.47, 0.46), start=180, end=360),
        *arc_points((0.5, 0.52), (0.47, 0.09), start=0, end=180),
    ]
    pen.polygon(cap, tone.base)
    dots = WHITE if min(tone.base) < 200 else (206, 178, 140)
    for x, y, r in (
        (0.3, 0.3, 0.07),
        (0.53, 0.19, 0.08),
        (0.72, 0.36, 0.075),
        (0.46, 0.43, 0.055),
        (0.16, 0.46, 0.04),
    ):
        pen.ellipse((x, y), (r, r * 0.85), fill=dots, outline=False)
    pen.polygon(cap, None)


def chair(pen: Pen, tone: Tones) -> None:
    for x in (0.3, 0.74):
        pen.box((x, 0.6), (x + 0.07, 0.88), fill=tone.dark)
    for x in (0.2, 0.74):
        pen.box((x, 0.04), (x + 0.08, 0.56), fill=tone.base, radius=0.03)
    for y in (0.1, 0.25, 0.4):
        pen.box((0.26, y), (0.76, y + 0.09), fill=tone.base)
    pen.polygon([(0.22, 0.54), (0.8, 0.54), (0.9, 0.7), (0.1, 0.7)], tone.light)
    pen.box((0.1, 0.68), (0.9, 0.75), fill=tone.base)
    for x in (0.12, 0.8):
        pen.box((x, 0.74), (x + 0.08, 0.98), fill=tone.base)


def lamp(pen: Pen, tone: Tones) -> None:
    pen.polygon([(0.26, 0.38), (0.74, 0.38), (0.86, 0.54), (0.14, 0.54)], (255, 236, 150, 90), outline=False)
    pen.ellipse((0.5, 0.38), (0.08, 0.08), fill=SUN)
    pen.rod([(0.5, 0.38), (0.5, 0.92)], GREY, 0.045)
    pen.blob([(0.24, 0.98), (0.36, 0.91), (0.64, 0.91), (0.76, 0.98)], tone.dark)
    pen.polygon([(0.34, 0.04), (0.66, 0.04), (0.82, 0.38), (0.18, 0.38)], tone.base)
    pen.polygon([(0.4, 0.06), (0.49, 0.06), (0.46, 0.34), (0.3, 0.34)], tone.light, outline=False)
    pen.line([(0.2, 0.34), (0.8, 0.34)], tone.dark, 0.026)


def clock(pen: Pen, tone: Tones) -> None:
    for x, way in ((0.26, -1), (0.74, 1)):
        pen.line([(x, 0.86), (x + 0.06 * way, 0.97)], pen.ink, 0.07)
        pen.ellipse((x, 0.15), (0.15, 0.1), fill=tone.dark, turn=35 * way)
    pen.line([(0.5, 0.04), (0.5, 0.18)], COAL, 0.05)
    pen.ellipse((0.5, 0.54), (0.4, 0.4), fill=tone.base)
    pen.ellipse((0.5, 0.54), (0.28, 0.28), fill=WHITE)
    for hour in range(12):
        x, y = arc_points((0.5, 0.54), (0.235, 0.235), start=hour * 30, end=hour * 30 + 9)[0]
        pen.ellipse((x, y), (0.017, 0.017), fill=COAL, outline=False)
    pen.line([(0.5, 0.54), (0.5, 0.36)], COAL, 0.035)
    pen.line([(0.5, 0.54), (0.63, 0.61)], COAL, 0.035)


SPRITES: dict[str, Callable[[Pen, Tones], None]] = {
    "house": house,
    "tree": tree,
    "car": car,
    "boat": boat,
    "bicycle": bicycle,
    "dog": dog,
    "cat": cat,
    "bird": bird,
    "fish": fish,
    "umbrella": umbrella,
    "balloon": balloon,
    "kite": kite,
    "ball": ball,
    "flower": flower,
    "mushroom": mushroom,
    "chair": chair,
    "lamp": lamp,
    "clock": clock,
}
