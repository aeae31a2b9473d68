"""The 8-bit cache beside float16: bytes on disk, in memory and per step, and images per second into a step.

    python -m bench.cache

Files of random tokens are written at the sizes of ViT-B/16 and ViT-L/14, and read once, so that they lie in
the page cache; then batches are taken in a random order as training takes them, to float32 tokens on the
device. Both dtypes take turns.
"""

import statistics
import tempfile
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch

from bench.destination import parser_of
from bench.limits import elapsed, measure_limits
from bench.loader import places
from bench.rows import Row, publish
from fsgr_model.clip.token_cache import CacheDtype, pack_tokens, token_format, trunk_identity
from fsgr_model.runtime.device import pick_device
from fsgr_model.runtime.errors import run_command
from fsgr_model.runtime.row_cache import MemoryRows, Place, open_rows
from fsgr_model.runtime.row_store import RowStore, RowWriter, groups_of
from fsgr_model.text.vocabulary import BOS, EOS
from fsgr_model.training.batches import CaptionedImages

PAGE = Path("docs/experiments/cache.md")
SHAPES = {"ViT-B/16": (197, 768), "ViT-L/14": (257, 1024)}
BATCH = 50
AIM_BYTES, AIM_RATE = "at most 0.51", "at least 1"


@dataclass(frozen=True)
class Caches:
    """The same tokens in both dtypes, ready for training."""

    name: str
    float16: CaptionedImages
    int8: CaptionedImages


def main(arguments: list[str] | None = None) -> None:
    parser = parser_of(__doc__)
    parser.set_defaults(page=PAGE)
    parser.add_argument("--images", type=int, default=2_000, help="0.5 and 0.8 MB each, for a while")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--folder", type=Path, default=Path(), help="where the files are written")
    given = parser.parse_args(arguments)
    device = pick_device()
    limits = measure_limits(device, given.folder)
    rows = []
    for name, shape in SHAPES.items():
        with tempfile.TemporaryDirectory(dir=given.folder) as folder:
            rows += measure(name, shape, Path(folder), given.images, rounds=given.rounds, device=device)
    publish("cache", rows, limits, device, out=given.out, page=given.page)


def measure(
    name: str, shape: tuple[int, int], folder: Path, count: int, *, rounds: int, device: torch.device
) -> list[Row]:
    """Bytes, then the rate from each place."""
    caches = Caches(
        name,
        images_of(folder / "float16.h5", shape, count, "float16"),
        images_of(folder / "int8.h5", shape, count, "int8"),
    )
    rows = bytes_rows(caches, device)
    for place in places(device):
        rows += rate_rows(caches, place, rounds, device)
    return rows


def images_of(path: Path, shape: tuple[int, int], count: int, kind: CacheDtype) -> CaptionedImages:
    """A file of `count` images; the tokens repeat after a hundred."""
    draw = torch.Generator().manual_seed(0)
    block = pack_tokens(torch.randn(100, *shape, generator=draw), kind).numpy()
    with RowWriter(path, token_format(shape, kind), range(count), trunk_identity({}, 0, kind)) as writer:
        for ids in groups_of(range(count), len(block)):
            writer.write(ids, block[: len(ids)])
    store = RowStore(path, {})
    store.load_all()
    return CaptionedImages(store, {image_id: [[BOS, 9, EOS]] for image_id in store.image_ids})


def bytes_rows(caches: Caches, device: torch.device) -> list[Row]:
    """Measured on the file, on the tensor held in memory, and on the batch that goes to the device."""

    def of_each(images: CaptionedImages) -> tuple[int, int, int]:
        images.tokens = held = MemoryRows(images.store, torch.device("cpu"))
        batch = images.batch(images.image_ids[:BATCH])
        return images.store.path.stat().st_size, held.rows.nbytes, batch.tokens_BTW.nbytes

    names = ("on disk", "in memory", f"a step of {BATCH} images reads")
    return [
        Row(f"{caches.name}, int8 {what}", eight / 1e6, "MB", None, "", eight / sixteen, "float16", AIM_BYTES)
        for what, sixteen, eight in zip(names, of_each(caches.float16), of_each(caches.int8), strict=True)
    ]


def rate_rows(caches: Caches, place: Place, rounds: int, device: torch.device) -> list[Row]:
    """Images per second to float32 tokens on the device; the ratio is the median of the paired ones."""
    for images in (caches.float16, caches.int8):
        images.tokens = open_rows(images.store, place, device)
    count = len(caches.int8.image_ids)
    both = [partial(into_step, images, device) for images in (caches.float16, caches.int8)]
    for work in both:
        work()  # warms up
    pairs = [[elapsed(work, device) for work in both] for _ in range(rounds)]
    sixteen, eight = (count / statistics.median(column) for column in zip(*pairs, strict=True))
    ratios = [one / other for one, other in pairs]
    low, high = np.quantile(ratios, [0.1, 0.9])
    return [
        Row(f"{caches.name}, float16 from {place} into a step", sixteen, "images/s"),
        Row(
            f"{caches.name}, int8 from {place} into a step (ratios {low:.2f} to {high:.2f})",
            eight,
            "images/s",
            ratio=statistics.median(ratios),
            than="float16",
            aim=AIM_RATE,
        ),
    ]


def into_step(images: CaptionedImages, device: torch.device) -> None:
    """An epoch of batches, each moved to the device as a training step does."""
    for batch in images.batches(images.epoch_groups(BATCH, seed=0, epoch=1)):
        batch.to(device)


if __name__ == "__main__":
    run_command(main)
