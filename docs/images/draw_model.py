"""Draws docs/images/model.png: `python docs/images/draw_model.py`, with requirements-dev.txt installed."""

from pathlib import Path

from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch, Rectangle

FROZEN, TRAINED, LOSS, DATA = "#dbe7f3", "#fde3c4", "#e3f0d8", "#f4f4f4"
BOXES = {  # name: (left, bottom, width, height, colour, text)
    "image": (0.1, 4.0, 1.2, 0.8, DATA, "image"),
    "trunk": (1.8, 3.8, 1.7, 1.2, FROZEN, "trunk\nCLIP, blocks\nbelow clip.cut"),
    "cache": (3.9, 4.0, 1.2, 0.8, DATA, "cache\nfloat16, int8"),
    "tail": (5.5, 3.7, 2.2, 1.4, FROZEN, "tail\nCLIP, blocks from clip.cut\n+ adapters, prompts"),
    "embed": (8.4, 4.3, 1.7, 0.8, TRAINED, "embedded patches\n(grid, image)"),
    "quantiser": (8.4, 2.7, 1.7, 0.9, FROZEN, "semantic quantiser\na concept for\neach patch"),
    "codebook": (5.5, 2.1, 2.2, 0.8, FROZEN, "codebook: concept names\nthrough CLIP's text tower"),
    "text": (10.6, 2.75, 1.4, 0.8, TRAINED, "text grids"),
    "encoder": (12.5, 3.5, 1.9, 1.5, TRAINED, "cross-modal\nencoder\npatches attend\nto concepts"),
    "decoder": (15.0, 3.5, 2.0, 1.5, TRAINED, "decoder\nself-attention\n(+ memory), image"),
    "caption": (17.5, 3.85, 1.4, 0.8, DATA, "caption"),
    "maps": (8.4, 6.0, 1.7, 0.8, DATA, "MaskCLIP\nlabel maps"),
    "contrast": (10.6, 5.95, 1.7, 0.9, LOSS, "patch contrast\n(XE)"),
    "alignment": (12.6, 5.95, 1.9, 0.9, LOSS, "progressive\nalignment (XE)"),
    "losses": (17.3, 5.95, 1.8, 0.9, LOSS, "XE, then SCST\non CIDEr-D"),
    "words": (15.0, 2.1, 2.0, 0.8, TRAINED, "word vectors\nstart as CLIP's"),
    "captions": (14.8, 6.0, 2.1, 0.8, FROZEN, "captions through\nCLIP's text tower"),
}
ARROWS = [
    ("image", "trunk"), ("trunk", "cache"), ("cache", "tail"), ("tail", "embed"), ("tail", "quantiser"),
    ("codebook", "quantiser"), ("quantiser", "text"), ("embed", "encoder"), ("text", "encoder"),
    ("encoder", "decoder"), ("decoder", "caption"), ("words", "decoder"), ("tail", "maps"),
    ("maps", "contrast"), ("embed", "contrast"), ("encoder", "alignment"), ("captions", "alignment"),
    ("caption", "losses"),
]  # fmt: skip
LEGEND = [
    (0.1, FROZEN, "frozen; of the tail, adapters and prompts are trained"),
    (6.2, TRAINED, "trained"),
    (7.9, LOSS, "loss"),
]
SIDES = {"right": (1.0, 0.5), "left": (0.0, 0.5), "top": (0.5, 1.0), "bottom": (0.5, 0.0)}


def main() -> None:
    figure = Figure(figsize=(15.5, 4.9), layout="constrained")
    axis = figure.subplots()
    axis.set(xlim=(0, 19.3), ylim=(1.3, 7.1), aspect="equal")
    axis.axis("off")
    for left, bottom, width, height, colour, text in BOXES.values():
        axis.add_patch(
            FancyBboxPatch((left, bottom), width, height, boxstyle="round,pad=0.05", fc=colour, ec="#555555")
        )
        axis.text(left + width / 2, bottom + height / 2, text, ha="center", va="center", fontsize=9)
    for start, end in ARROWS:
        axis.add_patch(
            FancyArrowPatch(*ends(start, end), arrowstyle="-|>", mutation_scale=11, color="#444444")
        )
    for left, colour, text in LEGEND:
        axis.add_patch(Rectangle((left, 1.45), 0.4, 0.25, fc=colour, ec="#555555"))
        axis.text(left + 0.55, 1.57, text, va="center", fontsize=9)
    figure.savefig(Path(__file__).with_name("model.png"), dpi=110)


def ends(start: str, end: str) -> tuple[tuple[float, float], tuple[float, float]]:
    """Where an arrow leaves one box and meets another: the sides that face each other."""
    (ax, ay), (bx, by) = centre(start), centre(end)
    upright = abs(by - ay) > abs(bx - ax)
    sides = ("top", "bottom") if by > ay else ("bottom", "top")
    if not upright:
        sides = ("right", "left") if bx > ax else ("left", "right")
    return place(start, sides[0]), place(end, sides[1])


def centre(name: str) -> tuple[float, float]:
    left, bottom, width, height, *_ = BOXES[name]
    return left + width / 2, bottom + height / 2


def place(name: str, side: str) -> tuple[float, float]:
    left, bottom, width, height, *_ = BOXES[name]
    across, up = SIDES[side]
    return left + across * width, bottom + up * height


if __name__ == "__main__":
    main()
