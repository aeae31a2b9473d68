"""Decodes pictures: the only place that does so, so that every stage sees the same pixels."""

import io
import stat
import struct
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, TiffImagePlugin, UnidentifiedImageError

from fsgr_model.datasets.picture_kinds import (
    HEAD_BYTES,
    RAW_SUFFIXES,
    Kind,
    kind_of,
    picture_formats,
    raw_file,
)
from fsgr_model.runtime.errors import UserError
from fsgr_model.runtime.resources import OF_MACHINE

# What Pillow raises for broken files, by format; it raises SyntaxError for a broken PNG.
DECODING_ERRORS = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    LookupError,
    TypeError,
    AttributeError,
    ArithmeticError,
    RuntimeError,
    MemoryError,
    struct.error,
    zlib.error,
)
# The TIFF tag that every DNG has, and no other picture.
DNG_VERSION = 50706
# Pillow takes at most 8 bytes per pixel for the largest picture that it decodes.
MOST_BYTES = 8 * 2 * 89_478_485
# Pillow warns of pictures of half that size; its refusal of larger ones is enough.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)


class BadImage(UserError):
    """An image that is missing or cannot be decoded; `reason` says why in a few words."""

    def __init__(self, name: str, *, reason: str, remedy: str = "restore or replace it") -> None:
        super().__init__(f"image {name}: {reason}; {remedy}")
        self.reason = reason


def open_rgb(path: Path) -> Image.Image:
    """The picture of a file: fully decoded, turned upright (EXIF orientation), in RGB of 8 bits.

    An animation gives its first frame. Transparent pixels become white. 16-bit grey is scaled by its largest
    possible value, 32-bit grey (integer or floating-point) from its darkest pixel to its brightest, since it
    has no fixed white; Pillow itself would clip both at 255.

    Raises:
        BadImage: the file is missing, or cannot be decoded.
    """
    return decode_rgb(read_image_bytes(path), str(path))


def read_image_bytes(path: Path) -> bytes:
    """The bytes of an image file. A link is followed.

    Raises:
        BadImage: as `check_image_file`, and where reading fails.
    """
    check_image_file(path)
    with _file_errors(path):
        return path.read_bytes()


def check_image_file(path: Path) -> None:
    """Check that there is an image file that may be read, without opening it.

    Raises:
        OSError: the error is of the machine, not of this file.
        BadImage: the file is missing, cannot be accessed, is larger than any picture that can be decoded, or
            is not a regular file: reading a pipe or a device might never end.
    """
    with _file_errors(path):
        facts = path.stat()
    if not stat.S_ISREG(facts.st_mode):
        raise BadImage(str(path), reason="cannot be read (not a file)")
    if facts.st_size > MOST_BYTES:
        raise BadImage(str(path), reason=f"{facts.st_size} bytes, more than {MOST_BYTES}")


@contextmanager
def _file_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except (FileNotFoundError, NotADirectoryError):
        raise BadImage(str(path), reason="missing") from None
    except OSError as error:
        # A single picture may be left out, but not all of them because of a lost connection.
        if error.errno in OF_MACHINE:
            raise
        raise BadImage(str(path), reason=f"cannot be read ({error.strerror})") from None
    except ValueError as error:
        raise BadImage(str(path), reason=f"not a file name ({error})") from None


def decode_rgb(data: bytes, name: str, most_pixels: int | None = None) -> Image.Image:
    """Decode a file's bytes as `open_rgb` does; `name` is for the message; its suffix may mark a raw file.

    With `most_pixels`, a picture of more is refused before any of them is decoded.

    Raises:
        BadImage: the format is not decoded here (the message names it if it is known), the file is broken or
            truncated, or it has so many pixels that decoding may exhaust the memory (twice
            `PIL.Image.MAX_IMAGE_PIXELS`, 179 million).
    """
    try:
        with Image.open(io.BytesIO(data), formats=picture_formats()) as picture:
            if raw := _raw_kind(picture, data, name):
                raise BadImage(name, reason=raw.what, remedy=raw.remedy)
            if most_pixels is not None and picture.width * picture.height > most_pixels:
                size = f"{picture.width} x {picture.height} pixels"
                raise BadImage(name, reason=f"{size}, more than {most_pixels}", remedy="make it smaller")
            return as_rgb(picture)
    except UnidentifiedImageError:
        raise _unidentified(data, name) from None
    except Image.DecompressionBombError:
        assert Image.MAX_IMAGE_PIXELS is not None, "or Pillow would refuse nothing"
        most = most_pixels or 2 * Image.MAX_IMAGE_PIXELS
        raise BadImage(name, reason=f"more than {most} pixels", remedy="make it smaller") from None
    except DECODING_ERRORS as error:
        raise BadImage(name, reason=f"cannot be decoded ({error})") from None


def _raw_kind(picture: Image.Image, data: bytes, name: str) -> Kind | None:
    """The kind of a camera's raw file; it may open as a TIFF, of which Pillow decodes a small preview."""
    if not isinstance(picture, TiffImagePlugin.TiffImageFile):
        return None
    suffix = Path(name).suffix.lower()
    if suffix in RAW_SUFFIXES:
        return kind_of(data[:HEAD_BYTES], suffix)
    return raw_file("DNG") if DNG_VERSION in picture.tag_v2 else kind_of(data[:HEAD_BYTES], "")


def _unidentified(data: bytes, name: str) -> BadImage:
    kind = kind_of(data[:HEAD_BYTES], Path(name).suffix.lower())
    if kind is not None:
        return BadImage(name, reason=kind.what, remedy=kind.remedy)
    return BadImage(
        name, reason="not an image that Pillow can read" if data else "not an image, but an empty file"
    )


def as_rgb(picture: Image.Image) -> Image.Image:
    """Convert a picture of any colour mode to upright RGB; transparent pixels become white.

    Raises:
        ValueError: a picture of floating point numbers holds NaN or infinity.
    """
    picture = ImageOps.exif_transpose(picture)
    if picture.mode.startswith("I;16"):
        return _grey(np.asarray(picture) / 65535)
    if picture.mode in ("I", "F"):
        level_HW = np.asarray(picture, dtype=np.float64)
        return _grey((level_HW - level_HW.min()) / max(np.ptp(level_HW), np.finfo(np.float64).tiny))
    if picture.has_transparency_data:
        page = Image.new("RGBA", picture.size, "white")
        page.alpha_composite(picture.convert("RGBA"))
        picture = page
    return picture.convert("RGB")


def _grey(share_HW: NDArray[np.floating]) -> Image.Image:
    """A grey picture from shares of white, 0 to 1."""
    if not np.isfinite(share_HW).all():
        raise ValueError("it holds NaN or infinity")
    return Image.fromarray(np.rint(255 * share_HW).astype(np.uint8)).convert("RGB")
