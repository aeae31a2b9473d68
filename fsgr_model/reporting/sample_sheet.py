"""A sheet of images: the picture, its label map as coloured patches, the captions and a reference.

Shapes: label maps are [side, side] ids into the concept names, first row on top.
"""

import io
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from fsgr_model.datasets.image_file import open_rgb
from fsgr_model.datasets.normal_form import ImageRecord
from fsgr_model.reporting.fonts import flaws, font, tell_once
from fsgr_model.reporting.typesetting import INK, QUIET, draw_legend, draw_paragraph, draw_tag
from fsgr_model.runtime.artifacts import whole_file

Colour = tuple[int, int, int]
SHEET_WIDTH = 1600
COLUMNS = 3
MARGIN = 36
GAP = 28
PADDING = 18
BETWEEN_PICTURES = 10
TEXT_SIZE = 17
LABEL_WIDTH = 64
CARD_WIDTH = (SHEET_WIDTH - 2 * MARGIN - (COLUMNS - 1) * GAP) // COLUMNS
INNER_WIDTH = CARD_WIDTH - 2 * PADDING
PICTURE = (INNER_WIDTH - BETWEEN_PICTURES) // 2
PAPER: Colour = (243, 241, 237)
CARD: Colour = (255, 255, 255)
DARKEST_GREY = 60
LARGEST_FILE = 1_000_000
# Far apart in hue, and in lightness where hues are close.
PALETTE: tuple[Colour, ...] = (
    (226, 59, 59),
    (38, 120, 222),
    (249, 183, 29),
    (46, 160, 77),
    (150, 74, 198),
    (25, 190, 200),
    (243, 120, 29),
    (232, 92, 170),
    (140, 205, 50),
    (128, 84, 48),
    (60, 60, 140),
    (120, 130, 140),
)


@dataclass(frozen=True)
class SheetRow:
    """One image of the sheet.

    `texts`: speaker and text; `label_map`: [side, side] of integers, drawn beside the picture where there
    is one; `remark` is written on the picture.
    """

    image_path: Path
    texts: Sequence[tuple[str, str]]
    label_map: NDArray[np.integer] | None = None
    remark: str = ""


def concept_colours(label_maps: Sequence[NDArray[np.integer]], concepts: int) -> dict[int, Colour]:
    """A colour for each concept on the maps ([side, side] ids below `concepts`).

    The most frequent concepts choose first; each takes the colour that is rarest among the concepts on the
    same maps, then the one that is rarest on the sheet. Concepts that never meet may share a colour.

    Raises:
        ValueError: a map contains an id that is not a concept.
    """
    on_map = [Counter(int(label) for label in label_map.flat) for label_map in label_maps]
    patches: Counter[int] = sum(on_map, Counter())
    wrong = sorted(label for label in patches if not 0 <= label < concepts)
    if wrong:
        raise ValueError(f"label {wrong[0]} on a map, but there are {concepts} concepts")
    chosen: dict[int, int] = {}
    for label in sorted(patches, key=lambda each: (-patches[each], each)):
        neighbours = {other for counts in on_map if label in counts for other in counts if other in chosen}
        beside = Counter(chosen[other] for other in neighbours)
        anywhere = Counter(chosen.values())
        chosen[label] = min(range(len(PALETTE)), key=lambda place: (beside[place], anywhere[place], place))
    return {label: PALETTE[place] for label, place in chosen.items()}


def choose_sheet_images(images: Sequence[ImageRecord], count: int) -> list[ImageRecord]:
    """At most `count` images, evenly spaced by id, an equal share of each domain."""
    domains = sorted({image.domain for image in images})
    chosen: list[ImageRecord] = []
    for number, domain in enumerate(domains):
        members = sorted(
            (image for image in images if image.domain == domain), key=lambda image: image.image_id
        )
        share = min(len(members), count // len(domains) + (number < count % len(domains)))
        chosen.extend(members[place * len(members) // share] for place in range(share))
    return chosen


def draw_sample_sheet(
    path: Path, rows: Sequence[SheetRow], concepts: Sequence[str], title: str, *, centre_only: bool = False
) -> None:
    """Write the sheet as a PNG, 1600 pixels wide; in 256 colours if it grows larger than 1 MB otherwise.

    A label map covers the whole picture, or with `centre_only` the square in its middle (images that CLIP saw
    resized by their shortest side and cropped). What cannot be drawn right on this machine is said on stderr.

    Raises:
        ValueError: there is no row, or a label map contains an id that is not a concept.
    """
    if not rows:
        raise ValueError("a sheet needs at least one row")
    maps = [row.label_map for row in rows if row.label_map is not None]
    colours = concept_colours(maps, len(concepts))
    cards = [draw_card(row, concepts, colours, centre_only) for row in rows]
    bands = [cards[first : first + COLUMNS] for first in range(0, len(cards), COLUMNS)]
    heights = [max(card.height for card in band) for band in bands]
    top = MARGIN + 58
    sheet = Image.new("RGB", (SHEET_WIDTH, top + sum(heights) + GAP * (len(bands) - 1) + MARGIN), PAPER)
    ImageDraw.Draw(sheet).text((MARGIN, MARGIN - 6), title, INK, font(26, title))
    for band, height in zip(bands, heights, strict=True):
        for column, card in enumerate(band):
            place = (MARGIN + column * (CARD_WIDTH + GAP), top)
            sheet.paste(CARD, (*place, place[0] + CARD_WIDTH, top + height))
            sheet.paste(card, place)
        top += height + GAP
    with whole_file(path) as partial:
        partial.write_bytes(small_png(sheet))
    named = {int(label) for label_map in maps for label in label_map.flat}
    texts = [title, *(concepts[label] for label in named), *(row.remark for row in rows)]
    for flaw in flaws([*texts, *(text for row in rows for each in row.texts for text in each)]):
        tell_once(flaw)


def draw_split_sheet(
    path: Path,
    images: list[ImageRecord],
    label_NG: NDArray[np.integer],
    concepts: list[str],
    *,
    references: dict[int, list[str]],
    results: dict[str, dict[int, str]],
    count: int,
    resize_mode: str,
) -> None:
    """Draw `count` images of a split with their label maps, the captions of XE and SCST, and a person's.

    Args:
        label_NG: rows of the concepts, a row per image, in the order of `images`.
        results: the captions of the phases "xe" and "scst", by image id.
        resize_mode: how CLIP saw the pictures; it saw only the middle of one that was not squashed.
    """
    side = round(label_NG.shape[1] ** 0.5)
    row_of = {image.image_id: row for row, image in enumerate(images)}
    rows = [
        SheetRow(
            image_path=Path(image.path),
            texts=[
                ("XE", results["xe"][image.image_id]),
                ("SCST", results["scst"][image.image_id]),
                *(("human", text) for text in references[image.image_id][:1]),
            ],
            label_map=label_NG[row_of[image.image_id]].reshape(side, side),
            remark=image.domain,
        )
        for image in choose_sheet_images(images, count)
    ]
    title = "Test images, label maps, captions of XE and SCST" + (
        ", and a person's" * any(references.values())
    )
    draw_sample_sheet(path, rows, concepts, title, centre_only=resize_mode != "squash")


def small_png(sheet: Image.Image) -> bytes:
    """Lossless where that is small enough (drawn scenes), else 256 colours."""
    lossless = _png(sheet)
    return lossless if len(lossless) <= LARGEST_FILE else _png(sheet.quantize(256))


def _png(picture: Image.Image) -> bytes:
    written = io.BytesIO()
    picture.save(written, "PNG", optimize=True)
    return written.getvalue()


def draw_card(
    row: SheetRow, concepts: Sequence[str], colours: dict[int, Colour], centre_only: bool
) -> Image.Image:
    """The card of one image, cut to the height of what is on it."""
    card = Image.new("RGB", (CARD_WIDTH, 2000), CARD)
    drawing = ImageDraw.Draw(card)
    picture = open_rgb(row.image_path)
    picture = centre(picture) if centre_only else picture
    side = INNER_WIDTH if row.label_map is None else PICTURE
    card.paste(_square(picture, side), (PADDING, PADDING))
    y = PADDING + side + 12
    if row.label_map is not None:
        right = PADDING + PICTURE + BETWEEN_PICTURES
        card.paste(_square(overlay(picture, row.label_map, colours), side), (right, PADDING))
        entries = legend_entries(row.label_map, concepts, colours)
        y = draw_legend(drawing, (PADDING, y), INNER_WIDTH, entries) + 10
    if row.remark:
        draw_tag(drawing, (PADDING + 8, PADDING + side - 32), row.remark)
    for label, text in row.texts:
        drawing.text((PADDING, y + 1), label, QUIET, font(TEXT_SIZE - 2, label))
        y = (
            draw_paragraph(
                drawing, (PADDING + LABEL_WIDTH, y), INNER_WIDTH - LABEL_WIDTH, text, size=TEXT_SIZE
            )
            + 6
        )
    return card.crop((0, 0, CARD_WIDTH, y + PADDING - 6))


def overlay(picture: Image.Image, label_map: NDArray[np.integer], colours: dict[int, Colour]) -> Image.Image:
    """The picture in light grey under translucent patches; the map, [side, side], covers all of it."""
    patches = np.array([[colours[int(label)] for label in line] for line in label_map], dtype=np.uint8)
    tint = Image.fromarray(patches).resize(picture.size, Image.Resampling.NEAREST)
    pale = picture.convert("L").point(
        [DARKEST_GREY + level * (255 - DARKEST_GREY) // 255 for level in range(256)]
    )
    return Image.blend(pale.convert("RGB"), tint, 0.6)


def _square(picture: Image.Image, side: int) -> Image.Image:
    """The picture's centre at the size of the sheet."""
    return centre(picture).resize((side, side), Image.Resampling.LANCZOS)


def centre(picture: Image.Image) -> Image.Image:
    side = min(picture.size)
    left, upper = (picture.width - side) // 2, (picture.height - side) // 2
    return picture.crop((left, upper, left + side, upper + side))


def legend_entries(
    label_map: NDArray[np.integer], concepts: Sequence[str], colours: dict[int, Colour]
) -> list[tuple[Colour, str]]:
    """Colour and name of each concept on the map, the most frequent first."""
    labels, counts = np.unique(label_map, return_counts=True)
    order = labels[np.argsort(-counts, kind="stable")]
    return [(colours[int(label)], concepts[int(label)]) for label in order]
