"""Text on pictures: word wrap, legends and paragraphs, from left to right or from right to left."""

import unicodedata
from collections.abc import Sequence

from PIL import ImageDraw, ImageFont, features

from fsgr_model.reporting.fonts import font, from_right

INK = (33, 33, 36)
QUIET = (134, 134, 140)
LINE_SPACING = 1.35
SWATCH = 13
LEGEND_SIZE = 15
LEGEND_LINES = 2
# They never begin a line.
CLOSING = "、。，．：；！？）」』】》…”’"


def wrapped(text: str, width: int, face: ImageFont.FreeTypeFont) -> list[str]:
    """Lines of at most `width` pixels; a word that is wider than that is broken."""
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if face.getlength(longer) <= width:
            lines[-1] = longer
            continue
        if not lines[-1]:
            lines.pop()
        *full, rest = _pieces(word, width, face)
        lines.extend([*full, rest])
    return lines


def _pieces(word: str, width: int, face: ImageFont.FreeTypeFont) -> list[str]:
    pieces = [""]
    for letter in letters(word):
        if pieces[-1] and face.getlength(pieces[-1] + letter) > width:
            pieces.append("")
        pieces[-1] += letter
    return pieces


def letters(word: str) -> list[str]:
    """Its letters, each with the marks on it and the closing signs after it; lines end between them."""
    found: list[str] = []
    for each in word:
        if found and (unicodedata.category(each)[0] == "M" or each in CLOSING):
            found[-1] += each
        else:
            found.append(each)
    return found


def draw_paragraph(
    drawing: ImageDraw.ImageDraw, place: tuple[int, int], width: int, text: str, *, size: int
) -> int:
    """Draw wrapped text with its upper left corner at `place`; returns the y below it.

    Text that runs from right to left stands at the right end of the width.
    """
    x, y = place
    face = font(size, text)
    for line in wrapped(text, width, face):
        if not from_right(text):
            drawing.text((x, y), line, INK, face)
        else:
            direction = "rtl" if features.check("raqm") else None
            drawing.text((x + width, y), line, INK, face, anchor="ra", direction=direction)
        y += round(size * LINE_SPACING)
    return y


def draw_legend(
    drawing: ImageDraw.ImageDraw,
    place: tuple[int, int],
    width: int,
    entries: Sequence[tuple[tuple[int, int, int], str]],
) -> int:
    """Draw colour swatches with names, at most two lines, then how many are left out; returns the y below."""
    face = font(LEGEND_SIZE, "".join(name for _, name in entries))
    left, y = place
    x, line = left, 1
    for number, (colour, name) in enumerate(entries):
        rest = f"+ {len(entries) - number}"
        step = SWATCH + 6 + round(face.getlength(name)) + 16
        room = width - (face.getlength(rest) if line == LEGEND_LINES and number + 1 < len(entries) else 0)
        if x + step - 16 > left + room:
            if line == LEGEND_LINES:
                drawing.text((x, y), rest, QUIET, face)
                break
            x, y, line = left, y + round(LEGEND_SIZE * 1.5), line + 1
        drawing.rounded_rectangle((x, y + 3, x + SWATCH, y + 3 + SWATCH), 3, colour)
        drawing.text((x + SWATCH + 6, y), name, QUIET, face)
        x += step
    return y + round(LEGEND_SIZE * 1.5)


def draw_tag(drawing: ImageDraw.ImageDraw, place: tuple[int, int], text: str) -> None:
    """Draw light text on a dark pill."""
    face = font(LEGEND_SIZE, text)
    x, y = place
    drawing.rounded_rectangle((x, y, x + round(face.getlength(text)) + 18, y + 24), 12, INK)
    drawing.text((x + 9, y + 3), text, (255, 255, 255), face)
