"""Captions of every script are drawn in a font that has its characters, or a line says which are missing."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw, features

from fsgr_model.reporting import fonts
from fsgr_model.reporting.fonts import AILERON, flaws, font, from_right, lacks, source_for
from fsgr_model.reporting.sample_sheet import SheetRow, draw_sample_sheet
from fsgr_model.reporting.typesetting import draw_paragraph, letters, wrapped

fontconfig = pytest.mark.skipif(not shutil.which("fc-match"), reason="needs fontconfig")
raqm = pytest.mark.skipif(not features.check("raqm"), reason="needs Pillow's Raqm layout")
CAPTION = "一只狗在草地上"


@pytest.fixture(autouse=True)
def forgotten() -> Iterator[None]:
    """Each test asks anew which fonts there are."""
    cached = (fonts.source_for, fonts._by_fontconfig, fonts._draws, fonts.face, fonts.tell_once)
    for each in cached:
        each.cache_clear()
    yield
    for each in cached:
        each.cache_clear()


@pytest.fixture
def no_fonts(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a machine that has none."""
    monkeypatch.setattr(shutil, "which", lambda name: None)
    monkeypatch.setattr(fonts, "BROUGHT", ())


@pytest.fixture
def chinese_font(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A font of full squares, which fontconfig knows, for the characters of `CAPTION` and some letters."""
    builder = pytest.importorskip("fontTools.fontBuilder", reason="matplotlib brings fontTools")
    pens = pytest.importorskip("fontTools.pens.ttGlyphPen")
    place = tmp_path / "share" / "fonts" / "squares.ttf"
    place.parent.mkdir(parents=True)
    made = builder.FontBuilder(1000, isTTF=True)
    names = {ord(letter): f"u{ord(letter):x}" for letter in CAPTION + "XESCThuman 。"}
    made.setupGlyphOrder([".notdef", *names.values()])
    made.setupCharacterMap(names)
    made.setupGlyf(
        {name: square(pens, 800 if name != ".notdef" else 300) for name in [".notdef", *names.values()]}
    )
    made.setupHorizontalMetrics({name: (1000, 0) for name in [".notdef", *names.values()]})
    made.setupHorizontalHeader(ascent=900, descent=-100)
    made.setupNameTable({"familyName": "Squares", "styleName": "Regular"})
    made.setupOS2()
    made.setupPost()
    made.save(place)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "share"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return place


def square(pens, side: int):
    pen = pens.TTGlyphPen(None)
    pen.moveTo((0, 0))
    for corner in ((0, side), (side, side), (side, 0)):
        pen.lineTo(corner)
    pen.closePath()
    return pen.glyph()


def test_latin_letters_are_the_same_on_every_machine(no_fonts: None) -> None:
    assert source_for(frozenset("Two dogs, 3 cats; caf.")) == AILERON
    assert font(17, "a dog").path == font(17).path
    assert flaws(["a dog", "a cat."]) == []


def test_what_no_font_has_is_named(no_fonts: None) -> None:
    (line,) = flaws([CAPTION, "a dog"])
    assert line.startswith(
        "no font of this machine has 一 上 只 在 地 狗 草 (7 characters, CJK); they are drawn"
    )
    assert "fonts-noto-cjk" in line


@fontconfig
def test_a_font_of_the_machine_draws_what_aileron_lacks(chinese_font: Path) -> None:
    assert lacks(AILERON, CAPTION) == set(CAPTION)
    assert source_for(frozenset(CAPTION)).file == str(chinese_font)
    assert flaws([CAPTION]) == []
    assert source_for(frozenset("a dog")) == AILERON
    (line,) = flaws([CAPTION + "龘"])
    assert "has 龘 (1 characters, CJK)" in line


@fontconfig
def test_a_sheet_of_chinese_captions_has_no_boxes(
    chinese_font: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Image.new("RGB", (32, 32)).save(tmp_path / "picture.png")
    maps = np.zeros((2, 2), dtype=np.uint16)
    rows = [SheetRow(tmp_path / "picture.png", [("XE", CAPTION), ("SCST", CAPTION)], maps)]
    draw_sample_sheet(tmp_path / "sheet.png", rows, ["狗"], "Test images")
    assert capsys.readouterr().err == ""
    rows = [SheetRow(tmp_path / "picture.png", [("XE", "龘")], maps)] * 2
    for _ in range(2):
        draw_sample_sheet(tmp_path / "sheet.png", rows, ["狗"], "Test images")
    assert capsys.readouterr().err.count("note: no font of this machine has 龘") == 1


def ink(text: str, width: int = 300) -> list[int]:
    """The columns that a paragraph blackens."""
    page = Image.new("L", (width, 60), 255)
    draw_paragraph(ImageDraw.Draw(page.convert("RGB")), (0, 0), width, text, size=20)
    coloured = Image.new("RGB", (width, 60), "white")
    draw_paragraph(ImageDraw.Draw(coloured), (0, 0), width, text, size=20)
    return np.flatnonzero((np.asarray(coloured.convert("L")) < 128).any(axis=0)).tolist()


@raqm
@pytest.mark.skipif(
    bool(lacks(source_for(frozenset("كلب")), "كلب")), reason="needs a font with Arabic letters"
)
def test_text_from_right_to_left_begins_at_the_right_and_is_joined() -> None:
    text = "كلب"
    assert from_right("3 كلب") and not from_right("dog كلب") and not from_right("3")
    drawn = ink(text)
    assert drawn[-1] > 290 and drawn[0] > 200
    # Joined letters leave no column free; the same letters kept apart do.
    assert drawn == list(range(drawn[0], drawn[-1] + 1))
    apart = ink("\u200c".join(text))
    assert len(apart) > len(drawn)


def test_a_pillow_without_layout_says_so(no_fonts: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(features, "check", lambda name: False)
    assert flaws(["a dog"]) == []
    line = flaws(["כלב"])[-1]
    assert line.startswith("Pillow has no text layout here") and "FriBiDi" in line


def test_lines_end_neither_before_a_mark_nor_before_a_full_stop() -> None:
    assert letters("ที่狗，在。") == ["ที่", "狗，", "在。"]
    face = font(20)
    lines = wrapped("狗" * 60 + "，" + "狗" * 60, 200, face)
    assert "".join(lines) == "狗" * 60 + "，" + "狗" * 60
    assert len(lines) > 2 and not any(line.startswith("，") for line in lines)
