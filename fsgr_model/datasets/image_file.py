"""Decoding a picture: the one place that does it, so that every stage sees the same pixels."""

import io
import struct
from pathlib import Path

from PIL import Image, ImageOps

from fsgr_model.errors import UserError

# What Pillow raises for broken files, by format.
DECODING_ERRORS = (OSError, SyntaxError, ValueError, EOFError, struct.error, Image.DecompressionBombError)


def open_rgb(path: Path) -> Image.Image:
    """The picture of a file: fully decoded, turned upright (EXIF orientation), in RGB.

    Raises:
        UserError: the file is missing, or cannot be decoded.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}; restore the image") from None
    return decode_rgb(data, str(path))


def decode_rgb(data: bytes, name: str) -> Image.Image:
    """As `open_rgb`, from a file's bytes; `name` is for the message."""
    try:
        with Image.open(io.BytesIO(data)) as picture:
            return ImageOps.exif_transpose(picture).convert("RGB")
    except DECODING_ERRORS as error:
        raise UserError(f"{name} cannot be decoded: {error}; restore or replace the image") from None
