"""A picture opens whole and upright, or says why not."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fsgr_model.datasets.image_file import BadImage, open_rgb

ORIENTATION = 0x0112


def save_noise(path: Path, width: int = 40, height: int = 24) -> Path:
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def test_turns_the_picture_as_exif_says(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = 6  # the camera was held on its side
    left_red = Image.new("RGB", (40, 24), "blue")
    left_red.paste("red", (0, 0, 20, 24))
    left_red.save(tmp_path / "side.png", exif=exif)
    upright = open_rgb(tmp_path / "side.png")
    assert upright.size == (24, 40)
    assert upright.getpixel((12, 2)) == (255, 0, 0)
    assert upright.getpixel((12, 38)) == (0, 0, 255)


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "CMYK", "1"])
def test_every_colour_mode_becomes_rgb(tmp_path: Path, mode: str) -> None:
    path = tmp_path / ("picture.tif" if mode == "CMYK" else "picture.png")
    Image.new(mode, (5, 7)).save(path)
    picture = open_rgb(path)
    assert (picture.mode, picture.size) == ("RGB", (5, 7))


@pytest.mark.parametrize("suffix", ["jpg", "png"])
def test_a_file_cut_off_is_an_error(tmp_path: Path, suffix: str) -> None:
    path = save_noise(tmp_path / f"cut.{suffix}")
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(BadImage, match=rf"cut\.{suffix}: cannot be decoded"):
        open_rgb(path)


def test_missing_text_and_folder(tmp_path: Path) -> None:
    (tmp_path / "text.jpg").write_text("not a picture")
    with pytest.raises(BadImage, match=r"none\.jpg: missing"):
        open_rgb(tmp_path / "none.jpg")
    with pytest.raises(BadImage, match=r"text\.jpg: not an image that Pillow can read"):
        open_rgb(tmp_path / "text.jpg")
    with pytest.raises(BadImage, match="cannot be read"):
        open_rgb(tmp_path)


def test_too_many_pixels_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save_noise(tmp_path / "large.png")
    monkeypatch.setattr(
        Image, "MAX_IMAGE_PIXELS", 900
    )  # 960 only warns in Pillow, which stops at twice the limit
    with pytest.raises(BadImage, match="more than 900 pixels"):
        open_rgb(path)
