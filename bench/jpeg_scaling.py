"""Would decoding JPEGs at a smaller scale (Pillow's `draft`) change the features? Measured, and left out.

    python -m bench.jpeg_scaling PHOTOGRAPHS --clip data/clip

The decoder can leave out frequencies and give a picture of a half, a quarter or an eighth, at least as large
as the network's input. The benchmark compares pixels after preprocessing and the trunk's tokens: the norm of
the difference over the norm of the exact ones.
"""

import io
import statistics
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import torch
from PIL import Image

from bench.destination import parser_of
from bench.limits import Limits, elapsed, measure_limits
from bench.rows import Row, publish
from fsgr_model.clip.loading import Clip, load_clip
from fsgr_model.clip.towers import AnyTrunk, make_trunk
from fsgr_model.runtime.errors import UserError, run_command

# As large as COCO's.
SIZE, QUALITY = (640, 480), 95
AIM = "1e-2 at the most, or it is not used"


def main(arguments: list[str] | None = None) -> None:
    parser = parser_of(__doc__)
    parser.add_argument("photographs", type=Path, help="folder of JPEGs; they are brought to 640 x 480 first")
    parser.add_argument("--clip", type=Path, default=Path("data/clip"))
    parser.add_argument(
        "--cut", type=int, default=1, help="block that the tokens enter (default: %(default)s)"
    )
    parser.add_argument("--count", type=int, default=100)
    given = parser.parse_args(arguments)
    paths = sorted(given.photographs.glob("*.jpg"))[: given.count]
    if not paths:
        raise UserError(f"{given.photographs} has no .jpg files")
    clip = load_clip(given.clip, torch.device("cpu"))
    limits: Limits = measure_limits()
    rows = measure([as_jpeg(path) for path in paths], clip, make_trunk(clip.model, given.cut))
    publish("jpeg_scaling", rows, limits, torch.device("cpu"), out=given.out, page=given.page)


@torch.inference_mode()
def measure(photographs: Sequence[bytes], clip: Clip, trunk: AnyTrunk) -> list[Row]:
    """Speed of both ways of decoding, and what the faster one changes."""
    exact = [clip.preprocess(decode(data)) for data in photographs]
    side = exact[0].shape[-1]
    scaled = [clip.preprocess(decode(data, side)) for data in photographs]
    pixels = [float((a - b).abs().mean()) for a, b in zip(exact, scaled, strict=True)]
    tokens = [relative(trunk(a[None]), trunk(b[None])) for a, b in zip(exact, scaled, strict=True)]
    slow, fast = (
        len(photographs) / elapsed(partial(decode_all, photographs, shown)) for shown in (None, side)
    )
    return [
        Row("decoding, all frequencies", slow, "images/s"),
        Row("decoding, smaller scale", fast, "images/s", ratio=fast / slow, than="all frequencies"),
        Row("pixels after preprocessing, mean difference", statistics.mean(pixels), "standard deviations"),
        Row("features, median relative difference", statistics.median(tokens), "", aim=AIM),
        Row("features, largest relative difference", max(tokens), "", aim=AIM),
    ]


def as_jpeg(path: Path) -> bytes:
    """The photograph as a JPEG of SIZE."""
    target = io.BytesIO()
    with Image.open(path) as picture:
        picture.convert("RGB").resize(SIZE, Image.Resampling.BICUBIC).save(target, "JPEG", quality=QUALITY)
    return target.getvalue()


def decode(data: bytes, side: int | None = None) -> Image.Image:
    """The picture; with `side`, at the smallest scale whose sides are not below it."""
    with Image.open(io.BytesIO(data)) as picture:
        if side is not None:
            picture.draft("RGB", (side, side))
        return picture.convert("RGB")


def decode_all(photographs: Sequence[bytes], side: int | None) -> None:
    """What is timed."""
    for data in photographs:
        decode(data, side)


def relative(exact: torch.Tensor, other: torch.Tensor) -> float:
    """Norm of the difference over the norm of the exact tokens."""
    return float((exact - other).norm() / exact.norm())


if __name__ == "__main__":
    run_command(main)
