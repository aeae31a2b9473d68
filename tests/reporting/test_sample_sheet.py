"""The sheet shows the right pictures with their labels in colours that tell them apart."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fsgr_model.datasets.normal_form import ImageRecord
from fsgr_model.reporting.fonts import font
from fsgr_model.reporting.sample_sheet import (
    LARGEST_FILE,
    MARGIN,
    PADDING,
    PALETTE,
    PICTURE,
    SHEET_WIDTH,
    SheetRow,
    choose_sheet_images,
    concept_colours,
    draw_sample_sheet,
    overlay,
)
from fsgr_model.reporting.typesetting import wrapped

CONCEPTS = ["dog", "grass", "sky"]
LONG = "a very long caption that goes on and on about a dog on the grass below a sky of many colours " * 2


def record(image_id: int, domain: str) -> ImageRecord:
    return ImageRecord(image_id, "test", f"{image_id}.png", 8, 8, 1, "", domain)


def row(folder: Path, number: int, caption: str = "a dog on the grass", side: int = 4) -> SheetRow:
    path = folder / f"{number}.png"
    pixels = np.random.default_rng(number).integers(0, 256, (60, 90, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    label_map = np.random.default_rng(number).integers(0, len(CONCEPTS), (side, side)).astype(np.uint16)
    texts = [("XE", caption), ("SCST", caption), ("human", "the reference")]
    return SheetRow(path, texts, label_map, "unseen")


def test_half_of_the_sheet_comes_from_each_domain() -> None:
    images = [record(number, "seen" if number < 30 else "unseen") for number in range(40)]
    chosen = choose_sheet_images(images, 12)
    assert [image.domain for image in chosen] == ["seen"] * 6 + ["unseen"] * 6
    assert [image.image_id for image in chosen[:6]] == [0, 5, 10, 15, 20, 25]
    assert choose_sheet_images(images[::-1], 12) == chosen


@pytest.mark.parametrize("count", [1, 5, 12, 100])
def test_chosen_images_are_different_and_as_many_as_asked(count: int) -> None:
    images = [record(number, "") for number in range(20)]
    chosen = choose_sheet_images(images, count)
    assert len({image.image_id for image in chosen}) == len(chosen) == min(count, 20)


def test_sheet_is_one_picture_of_the_promised_width(tmp_path: Path) -> None:
    rows = [row(tmp_path, number, LONG if number == 2 else "a dog") for number in range(4)]
    draw_sample_sheet(tmp_path / "sheet.png", rows, CONCEPTS, "Test images")
    first = (tmp_path / "sheet.png").read_bytes()
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert (sheet.format, sheet.width) == ("PNG", SHEET_WIDTH)
        assert sheet.height > 2 * PICTURE
    draw_sample_sheet(tmp_path / "sheet.png", rows, CONCEPTS, "Test images")
    assert (tmp_path / "sheet.png").read_bytes() == first
    assert len(first) < LARGEST_FILE


def test_a_sheet_is_as_high_as_its_texts(tmp_path: Path) -> None:
    one = row(tmp_path, 0)
    heights = []
    for texts in (one.texts, one.texts[:2]):
        rows = [replace(one, texts=texts)]
        draw_sample_sheet(tmp_path / "sheet.png", rows, CONCEPTS, "Test images")
        with Image.open(tmp_path / "sheet.png") as sheet:
            heights.append(sheet.height)
    assert heights[1] < heights[0]


def test_picture_stands_beside_its_overlay(tmp_path: Path) -> None:
    one = row(tmp_path, 0)
    draw_sample_sheet(tmp_path / "sheet.png", [one], CONCEPTS, "Test images")
    with Image.open(tmp_path / "sheet.png") as sheet, Image.open(one.image_path) as picture:
        top = MARGIN + 58 + PADDING
        left = MARGIN + PADDING
        shown = sheet.convert("RGB").crop((left, top, left + PICTURE, top + PICTURE // 2))
        centre = picture.crop((15, 0, 75, 60)).resize((PICTURE, PICTURE), Image.Resampling.LANCZOS)
        assert np.array_equal(np.asarray(shown), np.asarray(centre.crop((0, 0, PICTURE, PICTURE // 2))))


def test_overlay_colours_each_patch_with_its_label() -> None:
    colours = {0: (255, 0, 0), 1: (0, 0, 255)}
    tinted = np.asarray(overlay(Image.new("RGB", (40, 20), "white"), np.array([[0, 1], [1, 0]]), colours))
    red, blue = tinted[0, 0], tinted[0, 39]
    assert red[0] > red[2] and blue[2] > blue[0]
    assert np.array_equal(tinted[0, 19], red) and np.array_equal(tinted[19, 0], blue)
    assert np.array_equal(tinted[19, 39], red)


def test_concepts_that_share_a_map_differ_in_colour() -> None:
    generator = np.random.default_rng(0)
    groups = [generator.choice(40, 8, replace=False) for _ in range(12)]
    maps = [generator.choice(group, (14, 14)) for group in groups]
    colours = concept_colours(maps, 40)
    clashes = sum(
        len(present) - len({colours[label] for label in present}) for present in map(set, map(np.ravel, maps))
    )
    assert len(colours) > len(PALETTE)
    assert clashes == 0


def test_label_that_is_no_concept(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="label 2 on a map, but there are 2 concepts"):
        draw_sample_sheet(tmp_path / "sheet.png", [row(tmp_path, 0)], CONCEPTS[:2], "Test images")
    assert not (tmp_path / "sheet.png").exists()


def test_lines_keep_within_the_width_and_lose_no_word() -> None:
    text = LONG + "x" * 200
    lines = wrapped(text, 120, font(17))
    assert all(font(17).getlength(line) <= 120 for line in lines)
    assert "".join(lines).replace(" ", "") == text.replace(" ", "")
