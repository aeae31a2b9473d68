"""Pictures as the world sends them: every stage takes the same ones, whatever else lies in the folder."""

import errno
import io
import os
import struct
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image, ImageFile

from fsgr_model.datasets import picture_folders
from fsgr_model.datasets.image_file import BadImage, open_rgb, read_image_bytes
from fsgr_model.datasets.normal_form import read_images
from fsgr_model.runtime.artifacts import load_json
from fsgr_model.runtime.errors import UserError
from tests.worlds.small_dataset import SmallDataset, draw_noise

NOBODY = 65_534
NAMES = [
    "a space.png", "'quotes' \"both\".png", "Café.png", "Cafe\u0301.png", "寿司.png",
    "عربي.png", "😀.png", "-rf.png", "%s{0}.png",
    "new\nline.png", "semi;colon&.png", "$(touch x).png", "UPPER.PNG", "no_suffix", ".hidden.png", "a\\b.png",
]  # fmt: skip


def png_that_claims(width: int, height: int) -> bytes:
    """A whole PNG file of a few hundred bytes with this size in its header."""
    rows = zlib.compress(bytes(1_000))
    chunks = [
        (b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)), (b"IDAT", rows), (b"IEND", b"")
    ]  # fmt: skip
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks
    )


BAD = {
    "zero bytes": (b"", "not an image"),
    "a page": (b"<!DOCTYPE html><html>404</html>", "not an image"),
    "20,000 x 20,000": (png_that_claims(20_000, 20_000), "more than 178956970 pixels"),
    "14,000 x 14,000": (png_that_claims(14_000, 14_000), "more than 178956970 pixels"),
    "a program for Ghostscript": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "not decoded"),
    "0 x 0": (png_that_claims(0, 0), "cannot be decoded|not an image"),
}  # fmt: skip


@pytest.mark.parametrize("what", BAD)
def test_what_is_no_picture(tmp_path: Path, what: str) -> None:
    content, reason = BAD[what]
    path = tmp_path / "a.jpg"
    path.write_bytes(content)
    with pytest.raises(BadImage, match=reason):
        open_rgb(path)


def test_no_program_is_started_for_a_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pillow gives EPS files to Ghostscript, which executes them."""
    monkeypatch.setattr("subprocess.check_call", lambda *_, **__: pytest.fail("a program was started"))
    monkeypatch.setattr("PIL.EpsImagePlugin.has_ghostscript", lambda: True)
    buffer = io.BytesIO()
    Image.new("RGB", (9, 9)).save(buffer, "EPS")
    (tmp_path / "a.png").write_bytes(buffer.getvalue())
    with pytest.raises(BadImage, match=r"EPS.*not decoded"):
        open_rgb(tmp_path / "a.png")


def test_what_is_a_picture_whatever_its_name_and_mode(tmp_path: Path) -> None:
    Image.new("RGB", (7, 5), "red").save(tmp_path / "png.jpg", "PNG")
    Image.new("RGB", (1, 1), "red").save(tmp_path / "1x1.png")
    Image.new("CMYK", (7, 5), (0, 255, 255, 0)).save(tmp_path / "cmyk.jpg")
    palette = Image.new("P", (7, 5), 1)
    palette.putpalette([0, 0, 255, 255, 0, 0])
    palette.save(tmp_path / "palette.png", transparency=0)
    for name, size in {
        "png.jpg": (7, 5),
        "1x1.png": (1, 1),
        "cmyk.jpg": (7, 5),
        "palette.png": (7, 5),
    }.items():
        picture = open_rgb(tmp_path / name)
        assert (picture.mode, picture.size) == ("RGB", size)
        red, green, blue = picture.getpixel((0, 0))
        assert red > 230 and green < 25 and blue < 25, name


def test_a_transparent_colour_of_a_palette_shows_white(tmp_path: Path) -> None:
    palette = Image.new("P", (7, 5), 0)
    palette.putpalette([0, 0, 255, 255, 0, 0])
    palette.save(tmp_path / "palette.png", transparency=0)
    assert open_rgb(tmp_path / "palette.png").getpixel((3, 3)) == (255, 255, 255)


def test_pillow_is_not_told_to_take_broken_files() -> None:
    assert not ImageFile.LOAD_TRUNCATED_IMAGES


@pytest.mark.parametrize("name", NAMES)
def test_any_name_that_a_file_can_have(small: SmallDataset, name: str) -> None:
    draw_noise(small.root / "images" / "x.png", 77)
    (small.root / "images" / "x.png").rename(small.root / "images" / name)
    small.files["train"]["images"][0]["file_name"] = name
    folder = small.build()
    assert Path(read_images(folder)[0].path).read_bytes() == (small.root / "images" / name).read_bytes()
    small.files["train"]["images"][0]["file_name"] = "not " + name
    with pytest.raises(UserError, match=r"11.*: missing") as refusal:
        small.build()
    assert "\n" not in str(refusal.value)


def test_every_bad_image_is_told(small: SmallDataset, capsys: pytest.CaptureFixture[str]) -> None:
    """The message names the first 20; where there are more, all of them are printed above it."""
    small.files["train"]["images"] += [
        {"id": number, "file_name": f"{number}.jpg"} for number in range(100, 130)
    ]
    small.files["train"]["annotations"] += [
        {"id": 5000 + number, "image_id": number, "caption": "A dog."} for number in range(100, 130)
    ]
    with pytest.raises(UserError, match=r"30 in all: 100\.jpg .* and 10 more"):
        small.build()
    printed = capsys.readouterr().out
    assert all(
        f"bad image: '{number}.jpg' (image {number}): missing\n" in printed for number in range(100, 130)
    )


def test_links(small: SmallDataset, tmp_path: Path) -> None:
    """They are followed, as caches of datasets need it; one that leads out of the folder is told."""
    images = small.root / "images"
    (images / "12.png").rename(tmp_path / "elsewhere.png")
    (images / "12.png").symlink_to(tmp_path / "elsewhere.png")
    (images / "13.png").rename(images / "inside.png")
    (images / "13.png").symlink_to("inside.png")
    notes = load_json(small.build() / "report.json")["notes"]
    assert notes == [f"1 images are links that lead out of {images}: 12.png -> {tmp_path / 'elsewhere.png'}"]
    (tmp_path / "elsewhere.png").write_text("root:x:0:0:root:/root:/bin/bash")
    with pytest.raises(UserError, match=r"12\.png \(image 12\): not an image"):
        small.build()
    (tmp_path / "elsewhere.png").unlink()
    (images / "13.png").unlink()
    (images / "13.png").symlink_to("13.png")
    with pytest.raises(
        UserError, match=r"12\.png \(image 12\): missing; 13\.png \(image 13\): cannot be read"
    ):
        small.build()


@pytest.mark.parametrize("is_link", [True, False])
def test_only_a_link_is_passed_over_where_a_folder_cannot_be_looked_at(is_link: bool) -> None:
    """File systems that list names alone refuse each of them in a folder that is not to be searched."""

    def refuse() -> bool:
        raise PermissionError(errno.EACCES, "no permission", "a")

    entry = SimpleNamespace(is_dir=refuse, is_symlink=lambda: is_link)
    if is_link:
        assert not picture_folders._is_folder(entry)
        return
    with pytest.raises(PermissionError):
        picture_folders._is_folder(entry)


def test_pipes_and_devices_are_not_waited_for(small: SmallDataset) -> None:
    images = small.root / "images"
    for name in ("11.png", "12.png"):
        (images / name).unlink()
    os.mkfifo(images / "11.png")
    (images / "12.png").symlink_to("/dev/zero")
    with pytest.raises(
        UserError, match=r"11\.png .*: cannot be read \(not a file\); 12\.png .*\(not a file\)"
    ):
        small.build()


def test_a_file_larger_than_any_picture_is_not_read(tmp_path: Path) -> None:
    with (tmp_path / "a.jpg").open("wb") as sparse:
        sparse.truncate(2**40)
    with pytest.raises(BadImage, match="1099511627776 bytes, more than 1431655760"):
        read_image_bytes(tmp_path / "a.jpg")


@contextmanager
def somebody_else() -> Iterator[Path]:
    """A folder that everybody may enter, and the rights of a user who owns nothing, also for root."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        before = os.geteuid()
        if before == 0:
            os.seteuid(NOBODY)
        try:
            yield Path(name)
        finally:
            os.seteuid(before)


def test_files_that_may_not_be_read() -> None:
    with somebody_else() as folder:
        euid = os.geteuid()
        os.seteuid(os.getuid())
        draw_noise(folder / "a.png", 1)
        (folder / "a.png").chmod(0)
        (folder / "b.json").write_text("{}")
        (folder / "b.json").chmod(0)
        os.seteuid(euid)
        with pytest.raises(BadImage, match=r"a\.png: cannot be read \(Permission denied\)"):
            open_rgb(folder / "a.png")
        with pytest.raises(
            UserError, match=r"b\.json cannot be read \(Permission denied\); check its location and"
        ):
            load_json(folder / "b.json")
        os.seteuid(os.getuid())


@pytest.mark.parametrize("error", [FileNotFoundError(errno.ENOENT, "gone"), OSError(errno.EIO, "disk error")])
def test_a_file_that_goes_while_it_is_looked_at(
    small: SmallDataset, monkeypatch: pytest.MonkeyPatch, error: OSError
) -> None:
    read = Path.read_bytes

    def vanish(path: Path) -> bytes:
        if path.name == "13.png":
            raise error
        return read(path)

    monkeypatch.setattr(Path, "read_bytes", vanish)
    with pytest.raises(
        UserError, match=r"1 in all: 13\.png \(image 13\): (missing|cannot be read \(disk error\))"
    ):
        small.build()
    folder = small.build(on_bad_image="skip")
    assert 13 not in {image.image_id for image in read_images(folder)}
    assert [image["image_id"] for image in load_json(folder / "report.json")["skipped_images"]] == [13]


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ESTALE, errno.ENOMEM])
@pytest.mark.parametrize("call", ["read_bytes", "stat"])
def test_no_picture_is_left_out_for_what_the_machine_lacks(
    small: SmallDataset, monkeypatch: pytest.MonkeyPatch, number: int, call: str
) -> None:
    plain = getattr(Path, call)

    def refuse(path: Path, **options: bool) -> object:
        if path.name == "13.png":
            raise OSError(number, "not now", str(path))
        return plain(path, **options)

    monkeypatch.setattr(Path, call, refuse)
    with pytest.raises(OSError, match=r"not now.*13\.png"):
        small.build(on_bad_image="skip")


def test_a_rotated_picture_is_listed_upright(small: SmallDataset) -> None:
    exif = Image.Exif()
    exif[0x0112] = 8
    pixels = np.zeros((9, 12, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(small.root / "images" / "11.png", exif=exif)
    first = read_images(small.build())[0]
    assert (first.width, first.height) == (9, 12)


def test_a_number_of_another_kind_than_the_format_has(tmp_path: Path) -> None:
    """Pillow raises a TypeError of its own; fuzzing found it."""
    path = tmp_path / "a.tif"
    draw_noise(path, 1)
    data = path.read_bytes()
    strip_offsets = data.index(struct.pack("<HH", 273, 4))
    path.write_bytes(data[: strip_offsets + 2] + struct.pack("<H", 5) + data[strip_offsets + 4 :])
    with pytest.raises(BadImage, match=r"a\.tif: cannot be decoded"):
        open_rgb(path)
