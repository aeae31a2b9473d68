"""What is no picture, or no picture that is decoded here, is told by its name."""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fsgr_model.datasets import picture_kinds
from fsgr_model.datasets.image_file import BadImage, open_rgb
from fsgr_model.datasets.picture_kinds import (
    AVIF_PACKAGE,
    HEIF_PACKAGE,
    is_picture_name,
    kind_of,
    means_picture,
)
from fsgr_model.runtime.errors import UserError
from tests.worlds.small_dataset import SmallDataset

ROOT = Path(__file__).parents[2]
DNG_VERSION = 50706


def brands(*names: bytes) -> bytes:
    """The first box of an ISO file: its major brand, a version, and the brands it is compatible with."""
    body = b"ftyp" + names[0] + bytes(4) + b"".join(names)
    return (len(body) + 4).to_bytes(4, "big") + body + bytes(40)


HEIC = brands(b"heic", b"mif1", b"heic")
NAMED = {
    "a.jpg": (brands(b"avif", b"mif1", b"miaf"), "AVIF"),
    "a.CR3": (brands(b"crx ", b"isom"), "raw file (CR3)"),
    "b.jpg": (brands(b"crx ", b"isom"), "raw file (CR3)"),
    "a.CR2": (b"II*\0\x10\0\0\0CR\x02\0" + bytes(80), "raw file (CR2)"),
    "no suffix": (b"II*\0\x10\0\0\0CR\x02\0" + bytes(80), "raw file (CR2)"),
    "a.nef": (b"what the camera wrote", "raw file (NEF)"),
    "a.raf": (b"FUJIFILMCCD-RAW 0201", "raw file (RAF)"),
    "a.svg": (b'<?xml version="1.0"?>\n<svg xmlns="http://www.w3.org/2000/svg"/>', "drawing in lines (SVG)"),
    "c.jpg": (b"<!-- drawn by hand --><svg/>", "drawing in lines (SVG)"),
    "a.eps": (b"%!PS-Adobe-3.0 EPSF-3.0\n", "drawing in lines (EPS)"),
    "a.jxl": (b"\xff\x0a" + bytes(20), "JPEG XL"),
    "d.jpg": (b"\0\0\0\x0cJXL \r\n\x87\n", "JPEG XL"),
    "e.jpg": (b"%PDF-1.7\n", "a PDF document, not a picture"),
    "f.jpg": (brands(b"qt  "), "a film, not a picture"),
    "features.h5": (b"\x89HDF\r\n\x1a\n" + bytes(90), "an HDF5 file, not a picture"),
    "clip.mpg": (b"\0\0\x01\xba" + bytes(90), "a film, not a picture"),
    "._IMG_1.JPG": (b"\0\x05\x16\x07\0\x02\0\0Mac OS X", "AppleDouble"),
    "empty.CR2": (b"", "an empty file"),
    "g.jpg": (b"<!DOCTYPE html><html><svg/></html>", "not an image that Pillow can read"),
}  # fmt: skip


@pytest.mark.parametrize("name", NAMED)
def test_what_is_not_decoded_is_named(tmp_path: Path, name: str) -> None:
    content, reason = NAMED[name]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(BadImage) as refusal:
        open_rgb(tmp_path / name)
    assert reason in refusal.value.reason


@pytest.fixture
def no_extras(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """As on a machine without pillow-heif, whose Pillow has no AVIF."""

    def forget() -> None:
        for known in (picture_kinds.picture_formats, picture_kinds.format_of_suffix, means_picture):
            known.cache_clear()

    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    Image.init()
    left = {suffix: name for suffix, name in Image.EXTENSION.items() if name not in ("HEIF", "AVIF")}
    monkeypatch.setattr(Image, "EXTENSION", left)
    monkeypatch.setattr(Image, "ID", [name for name in Image.ID if name not in ("HEIF", "AVIF")])
    forget()
    yield
    forget()


@pytest.mark.usefixtures("no_extras")
@pytest.mark.parametrize("name", ["IMG_1.HEIC", "IMG_1.jpg", "IMG_1"])
def test_a_heic_picture_names_the_package_that_reads_it(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(HEIC)
    with pytest.raises(BadImage, match=r"HEIC, which needs the package pillow-heif: pip install") as refusal:
        open_rgb(tmp_path / name)
    assert HEIF_PACKAGE in refusal.value.reason


@pytest.mark.usefixtures("no_extras")
def test_an_avif_picture_names_the_pillow_that_reads_it(tmp_path: Path) -> None:
    (tmp_path / "a.avif").write_bytes(brands(b"mif1", b"avif"))
    with pytest.raises(BadImage, match="AVIF, which needs a newer Pillow") as refusal:
        open_rgb(tmp_path / "a.avif")
    assert AVIF_PACKAGE in refusal.value.reason


@pytest.mark.usefixtures("no_extras")
def test_the_dataset_stage_names_the_package(small: SmallDataset) -> None:
    (small.root / "images" / "12.png").unlink()
    (small.root / "images" / "12.HEIC").write_bytes(HEIC)
    small.files["train"]["images"][1]["file_name"] = "12.HEIC"
    with pytest.raises(UserError, match=r'12\.HEIC \(image 12\): HEIC, .* pip install "pillow-heif'):
        small.build()


def test_the_package_that_is_named_is_the_one_that_is_tested() -> None:
    assert f"\n{HEIF_PACKAGE} " in (ROOT / "requirements-dev.txt").read_text()
    (pillow,) = [line for line in (ROOT / "requirements.txt").read_text().splitlines() if "pillow" in line]
    assert pillow.split()[0].partition(",")[2] == AVIF_PACKAGE.partition(",")[2]


def save_left_red(path: Path, **options: object) -> None:
    picture = Image.new("RGB", (48, 32), "blue")
    picture.paste("red", (0, 0, 24, 32))
    picture.save(path, **options)


def test_heic_is_read_and_turned_once(tmp_path: Path) -> None:
    pytest.importorskip("pillow_heif")
    picture_kinds.picture_formats()
    exif = Image.Exif()
    exif[0x0112] = 6
    save_left_red(tmp_path / "IMG_1.HEIC", format="HEIF", exif=exif.tobytes())
    (tmp_path / "IMG_2.jpg").write_bytes((tmp_path / "IMG_1.HEIC").read_bytes())
    for name in ("IMG_1.HEIC", "IMG_2.jpg"):
        upright = open_rgb(tmp_path / name)
        assert (upright.mode, upright.size) == ("RGB", (32, 48))
        pixels_HWC = np.asarray(upright, dtype=int)
        assert np.abs(pixels_HWC[8, 16] - [255, 0, 0]).max() < 30
        assert np.abs(pixels_HWC[40, 16] - [0, 0, 255]).max() < 30


def test_heic_that_was_cut_off(tmp_path: Path) -> None:
    pytest.importorskip("pillow_heif")
    picture_kinds.picture_formats()
    save_left_red(tmp_path / "a.heic", format="HEIF")
    whole = (tmp_path / "a.heic").read_bytes()
    (tmp_path / "a.heic").write_bytes(whole[: len(whole) - 40])
    with pytest.raises(BadImage, match=r"HEIC that is broken or cut off|cannot be decoded"):
        open_rgb(tmp_path / "a.heic")


@pytest.mark.skipif(".avif" not in Image.registered_extensions(), reason="this Pillow has no AVIF")
def test_avif_is_read(tmp_path: Path) -> None:
    save_left_red(tmp_path / "a.avif")
    assert open_rgb(tmp_path / "a.avif").size == (48, 32)


def test_the_preview_in_a_raw_file_is_not_taken_for_the_picture(tmp_path: Path) -> None:
    """Cameras' raw files are TIFF files whose first picture is a small preview."""
    save_left_red(tmp_path / "a.tif", tiffinfo={DNG_VERSION: bytes((1, 4, 0, 0))})
    with pytest.raises(BadImage, match=r"a\.tif: a camera's raw file \(DNG\)"):
        open_rgb(tmp_path / "a.tif")
    save_left_red(tmp_path / "b.tif")
    (tmp_path / "b.tif").rename(tmp_path / "b.NEF")
    with pytest.raises(BadImage, match=r"b\.NEF: a camera's raw file \(NEF\)"):
        open_rgb(tmp_path / "b.NEF")
    save_left_red(tmp_path / "c.jpg")
    (tmp_path / "c.jpg").rename(tmp_path / "c.NEF")
    assert open_rgb(tmp_path / "c.NEF").size == (48, 32), "a JPEG, whatever its name"


def test_a_program_without_the_package_starts_and_reads_other_pictures(tmp_path: Path) -> None:
    save_left_red(tmp_path / "a.png")
    code = (
        "import sys; sys.modules['pillow_heif'] = None; from pathlib import Path; "
        "from fsgr_model.datasets.image_file import open_rgb; print(open_rgb(Path(sys.argv[1])).size)"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "a.png")]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout == "(48, 32)\n"


def test_texts_are_not_taken_for_what_they_begin_like() -> None:
    for text in (
        b"",
        b"II. Section",
        b"BMW and others",
        b"P3ople",
        b"see page 8CR and on",
        b"PK",
        b"%!PS-Adobe",
    ):
        assert kind_of(text, "") is None, text


# The tokenizer knows suffixes of files because the official program keeps such names whole.
OWN = ("picture_kinds.py", "ptb_tokenizer.py")


def test_the_suffixes_of_pictures_stand_in_one_place() -> None:
    """Whoever has a list of suffixes of its own would miss what is added here."""
    own = re.compile(r"jpe?\??g.*png|png.*jpe?\??g", re.IGNORECASE)
    sources = [path for path in (ROOT / "fsgr_model").rglob("*.py") if path.name not in OWN]
    lists = [
        line
        for path in sources
        for line in path.read_text(encoding="utf-8").split("\n")
        if own.search(line.partition("#")[0])
    ]
    assert lists == []


@pytest.mark.parametrize("name", ["a.jpg", "b/a.JPEG", "a.tif", "a.b.webp", "a.HEIC"])
def test_names_of_pictures(name: str) -> None:
    assert is_picture_name(name)


@pytest.mark.parametrize("name", ["a", ".jpg", "a.txt", "a.jpg.txt", "jpg"])
def test_other_names(name: str) -> None:
    assert not is_picture_name(name)
