"""A picture opens whole and upright, or says why not."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fsgr_model.datasets.image_file import BadImage, as_rgb, open_rgb

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
    with Image.open(tmp_path / "side.png") as given:
        assert as_rgb(given).size == (24, 40)
        assert given.size == (40, 24) and given.getexif()[ORIENTATION] == 6, (
            "a caller's picture stays as it is"
        )


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "CMYK", "1"])
def test_every_colour_mode_becomes_rgb(tmp_path: Path, mode: str) -> None:
    path = tmp_path / ("picture.tif" if mode == "CMYK" else "picture.png")
    Image.new(mode, (5, 7)).save(path)
    picture = open_rgb(path)
    assert (picture.mode, picture.size) == ("RGB", (5, 7))


def test_transparent_pixels_show_white(tmp_path: Path) -> None:
    half = Image.new("RGBA", (2, 1), (200, 0, 0, 255))
    half.putpixel((1, 0), (200, 0, 0, 0))
    half.save(tmp_path / "alpha.png")
    seen = open_rgb(tmp_path / "alpha.png")
    assert [seen.getpixel((x, 0)) for x in (0, 1)] == [(200, 0, 0), (255, 255, 255)]


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_sixteen_bits_are_scaled(tmp_path: Path, suffix: str) -> None:
    level = np.array([[0, 257, 32896, 65535]], dtype=np.uint16)
    Image.fromarray(level).save(tmp_path / f"deep.{suffix}")
    assert np.asarray(open_rgb(tmp_path / f"deep.{suffix}"))[0, :, 0].tolist() == [0, 1, 128, 255]


@pytest.mark.parametrize("kind", [np.float32, np.int32])
def test_thirty_two_bits_go_from_darkest_to_brightest(tmp_path: Path, kind: type) -> None:
    Image.fromarray(np.array([[-100_000, 0, 100_000]], dtype=kind)).save(tmp_path / "deep.tif")
    assert np.asarray(open_rgb(tmp_path / "deep.tif"))[0, :, 0].tolist() == [0, 128, 255]
    Image.fromarray(np.full((2, 2), 7, dtype=kind)).save(tmp_path / "flat.tif")
    assert np.asarray(open_rgb(tmp_path / "flat.tif")).max() == 0


def test_pixels_that_are_no_numbers_are_an_error(tmp_path: Path) -> None:
    Image.fromarray(np.array([[1.0, np.nan]], dtype=np.float32)).save(tmp_path / "nan.tif")
    with pytest.raises(BadImage, match="NaN"):
        open_rgb(tmp_path / "nan.tif")


def test_an_animation_shows_its_first_frame(tmp_path: Path) -> None:
    red, blue = (Image.new("RGB", (4, 4), colour) for colour in ("red", "blue"))
    red.save(tmp_path / "moving.gif", save_all=True, append_images=[blue])
    assert open_rgb(tmp_path / "moving.gif").getpixel((1, 1)) == (255, 0, 0)


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
    """Pillow's own limit is twice the number from which on it warns."""
    path = save_noise(tmp_path / "large.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 480)
    assert open_rgb(path).size == (40, 24)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 479)
    with pytest.raises(BadImage, match="more than 958 pixels"):
        open_rgb(path)
