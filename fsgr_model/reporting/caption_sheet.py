"""A sheet for one picture: its label map, the quantiser's concepts, and the attention of each word.

Shapes: L words, S rows and columns of the patch grid; maps are ids into the concept names, first row on top.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from fsgr_model.datasets.image_file import open_rgb
from fsgr_model.reporting.fonts import flaws, font, tell_once
from fsgr_model.reporting.sample_sheet import (
    CARD,
    centre,
    concept_colours,
    legend_entries,
    overlay,
    small_png,
)
from fsgr_model.reporting.typesetting import INK, QUIET, draw_legend, draw_paragraph
from fsgr_model.runtime.artifacts import whole_file

WIDTH = 1200
MARGIN = 36
GAP = 24
PANEL = (WIDTH - 2 * MARGIN - 2 * GAP) // 3
TILES_PER_ROW = 6
TILE = (WIDTH - 2 * MARGIN - (TILES_PER_ROW - 1) * GAP) // TILES_PER_ROW
LEGEND_HEIGHT = 52
LINE = 28
DARKEST = 0.15


@dataclass(frozen=True)
class CaptionSheet:
    """The content of a sheet.

    `attention_LSS`: one map per word; `label_SS`: MaskCLIP's concepts; `concept_SS`: those of the quantiser,
    where the network has one.
    """

    image_path: Path
    caption: str
    words: list[str]
    attention_LSS: NDArray[np.floating]
    label_SS: NDArray[np.integer]
    concept_SS: NDArray[np.integer] | None


def draw_caption_sheet(path: Path, sheet: CaptionSheet, concepts: Sequence[str], centre_only: bool) -> None:
    """Write the sheet as a PNG, 1200 pixels wide.

    The maps cover the whole picture, or with `centre_only` the square in its middle. What cannot be drawn
    right on this machine is said on stderr.
    """
    picture = open_rgb(sheet.image_path)
    picture = centre(picture) if centre_only else picture
    panels, words = _panels(sheet, picture, concepts), _words(sheet, picture)
    page = Image.new("RGB", (WIDTH, panels.height + words.height), CARD)
    page.paste(panels, (0, 0))
    page.paste(words, (0, panels.height))
    with whole_file(path) as partial:
        partial.write_bytes(small_png(page))
    maps = [sheet.label_SS] if sheet.concept_SS is None else [sheet.label_SS, sheet.concept_SS]
    named = {int(label) for map_SS in maps for label in map_SS.flat}
    for flaw in flaws([sheet.caption, *sheet.words, *(concepts[label] for label in named)]):
        tell_once(flaw)


def _panels(sheet: CaptionSheet, picture: Image.Image, concepts: Sequence[str]) -> Image.Image:
    """The picture, both maps with their legends, and the caption."""
    maps = {"label map": sheet.label_SS}
    if sheet.concept_SS is not None:
        maps["what the network saw"] = sheet.concept_SS
    colours = concept_colours(list(maps.values()), len(concepts))
    fitted = within(picture, PANEL)
    page = Image.new("RGB", (WIDTH, 2000), CARD)
    drawing = ImageDraw.Draw(page)
    bottom = MARGIN + LINE + fitted.height + 12
    page.paste(fitted, (MARGIN, MARGIN + LINE))
    for column, (title, map_SS) in enumerate(maps.items(), start=1):
        x = MARGIN + column * (PANEL + GAP)
        drawing.text((x, MARGIN), title, QUIET, font(15))
        page.paste(overlay(fitted, map_SS, colours), (x, MARGIN + LINE))
        draw_legend(drawing, (x, bottom), PANEL, legend_entries(map_SS, concepts, colours))
    y = draw_paragraph(drawing, (MARGIN, bottom + LEGEND_HEIGHT), WIDTH - 2 * MARGIN, sheet.caption, size=24)
    return page.crop((0, 0, WIDTH, y + GAP // 2))


def _words(sheet: CaptionSheet, picture: Image.Image) -> Image.Image:
    """One small picture per word, dark where it has no attention."""
    fitted = within(picture, TILE)
    step = fitted.height + LINE + GAP // 2
    rows = -(-len(sheet.words) // TILES_PER_ROW)
    page = Image.new("RGB", (WIDTH, rows * step + MARGIN - GAP // 2), CARD)
    drawing = ImageDraw.Draw(page)
    for number, (word, attention_SS) in enumerate(zip(sheet.words, sheet.attention_LSS, strict=True)):
        x = MARGIN + number % TILES_PER_ROW * (TILE + GAP)
        y = number // TILES_PER_ROW * step
        page.paste(lit(fitted, attention_SS), (x, y))
        drawing.text((x, y + fitted.height + 4), word, INK, font(17, word))
    return page


def within(picture: Image.Image, side: int) -> Image.Image:
    """The picture as large as fits into a square; however thin it is, a line of pixels stays."""
    longest = max(picture.size)
    width, height = (max(1, round(length / longest * side)) for length in picture.size)
    return picture.resize((width, height))


def lit(picture: Image.Image, attention_SS: NDArray[np.floating]) -> Image.Image:
    """The picture in full light where attention is strongest, nearly dark where there is none."""
    strength = Image.fromarray((attention_SS / attention_SS.max()).astype(np.float32))
    light_HW = np.asarray(strength.resize(picture.size, Image.Resampling.BILINEAR))
    pixels = np.asarray(picture) * (DARKEST + (1 - DARKEST) * light_HW[..., None])
    return Image.fromarray(pixels.astype(np.uint8))
