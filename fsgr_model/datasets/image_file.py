"""Decoding a picture: the one place that does it, so that every stage sees the same pixels."""

import io
import struct
import warnings
import zlib
from pathlib import Path

from PIL import Image, ImageOps, UnidentifiedImageError

from fsgr_model.errors import UserError

# What Pillow raises for broken files, by format; SyntaxError is its word for a broken PNG.
DECODING_ERRORS = (OSError, SyntaxError, ValueError, EOFError, IndexError, struct.error, zlib.error)
TOO_LARGE = (Image.DecompressionBombWarning, Image.DecompressionBombError)


class BadImage(UserError):
    """An image that is missing or cannot be decoded; `reason` says why in a few words."""

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(f"image {name}: {reason}; restore or replace it")
        self.reason = reason


def open_rgb(path: Path) -> Image.Image:
    """The picture of a file: fully decoded, turned upright (EXIF orientation), in RGB.

    Raises:
        BadImage: the file is missing, or cannot be decoded.
    """
    return decode_rgb(read_image_bytes(path), str(path))


def read_image_bytes(path: Path) -> bytes:
    """The bytes of an image file.

    Raises:
        BadImage: the file is missing or cannot be read.
    """
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise BadImage(str(path), "missing") from None
    except OSError as error:
        raise BadImage(str(path), f"cannot be read ({error.strerror})") from None


def decode_rgb(data: bytes, name: str) -> Image.Image:
    """As `open_rgb`, from a file's bytes; `name` is for the message.

    Raises:
        BadImage: no format that Pillow reads, broken or cut off before its end, or so many pixels that
            decoding may exhaust the memory (`PIL.Image.MAX_IMAGE_PIXELS`).
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(data)) as picture:
                return ImageOps.exif_transpose(picture).convert("RGB")
    except UnidentifiedImageError:
        raise BadImage(name, "not an image that Pillow can read") from None
    except TOO_LARGE:
        raise BadImage(name, f"more than {Image.MAX_IMAGE_PIXELS} pixels") from None
    except DECODING_ERRORS as error:
        raise BadImage(name, f"cannot be decoded ({error})") from None
