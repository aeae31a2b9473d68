"""Cached features on their way to a training step: images per second from each place that they may wait in.

    python -m bench.loader

A file of random tokens, 197 x 768 in float16, is written and read once, so that it lies in the page cache;
then batches are taken in a random order as training takes them.
"""

import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import h5py
import numpy as np
import torch

from bench.destination import parser_of
from bench.limits import Limits, elapsed, measure_limits
from bench.rows import Row, publish
from fsgr_model.runtime.device import pick_device
from fsgr_model.runtime.errors import run_command
from fsgr_model.runtime.row_cache import Place, open_rows
from fsgr_model.runtime.row_store import RowFormat, RowStore, RowWriter, groups_of
from fsgr_model.text.vocabulary import BOS, EOS
from fsgr_model.training.batches import Batch, CaptionedImages

ROW = RowFormat("tokens", (197, 768), "float16")
BATCH = 50
TRIES = 3
STEP_SECONDS = 0.02
PLAIN = "the file opened for each image"
AIM = "20,000 from the page cache"


def main(arguments: list[str] | None = None) -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--images", type=int, default=3_000, help="0.3 MB each")
    parser.add_argument("--folder", type=Path, default=Path(), help="where the file is written")
    given = parser.parse_args(arguments)
    torch.set_num_threads(1)
    device = pick_device()
    limits = measure_limits(device, given.folder)
    with tempfile.TemporaryDirectory(dir=given.folder) as folder:
        rows = measure(Path(folder), given.images, device, limits)
    publish("loader", rows, limits, device, out=given.out, page=given.page)


def measure(folder: Path, count: int, device: torch.device, limits: Limits) -> list[Row]:
    """A row for each place, one for the older way, and the share of waiting beside a step."""
    store = make_store(folder / "tokens.h5", count)
    images = CaptionedImages(store, {image_id: [[BOS, 9, EOS]] for image_id in store.image_ids})
    groups = images.epoch_groups(BATCH, seed=0, epoch=1)
    few = groups[: max(1, len(groups) // 20)]
    plain = best_rate(lambda: plain_batches(store, few), sum(map(len, few)))
    rows = []
    for place in places(device):
        images.tokens = open_rows(store, place, device)
        rate = best_rate(lambda: use(images.batches(groups)), count)
        share = rate * ROW.bytes / 1e9 / limits.page_cache_read
        aim = AIM if place == "disk" else ""
        rows.append(
            Row(
                f"runtime.cache: {place}",
                rate,
                "images/s",
                share,
                "page cache reading",
                rate / plain,
                PLAIN,
                aim,
            )
        )
    rows.append(Row(PLAIN, plain, "images/s"))
    images.tokens = open_rows(store, "disk", device)
    return [*rows, waiting_row(images, groups)]


def places(device: torch.device) -> list[Place]:
    """Those that there are here."""
    return ["disk", "ram", "gpu"] if device.type == "cuda" else ["disk", "ram"]


def make_store(path: Path, count: int) -> RowStore:
    """A finished file of `count` rows; the rows repeat after a hundred."""
    draw = np.random.default_rng(0)
    block = draw.standard_normal((100, *ROW.shape), dtype=np.float32).astype(np.float16)
    with RowWriter(path, ROW, range(count), {}) as writer:
        for ids in groups_of(range(count), len(block)):
            writer.write(ids, block[: len(ids)])
    return RowStore(path, {})


def plain_batches(store: RowStore, groups: Iterable[list[int]]) -> None:
    """As older captioning code reads: the file is opened for each image."""
    for group in groups:
        rows = []
        for image_id in group:
            with h5py.File(store.path) as file:
                rows.append(torch.from_numpy(file["tokens"][image_id]))
        torch.stack(rows)


def use(batches: Iterable[Batch]) -> None:
    for _ in batches:
        pass


def best_rate(run: Callable[[], None], items: int) -> float:
    """Items per second of the fastest try."""
    return items / min(elapsed(run) for _ in range(TRIES))


def waiting_row(images: CaptionedImages, groups: list[list[int]]) -> Row:
    """The share of an epoch that waits for features, where a step keeps a GPU busy and not the CPU."""
    start = time.perf_counter()
    for _ in images.batches(groups):
        time.sleep(STEP_SECONDS)
    share = images.waited / (time.perf_counter() - start)
    return Row(
        f"waiting, steps of {1000 * STEP_SECONDS:.0f} ms with {BATCH} images", 100 * share, "%", aim="none"
    )


if __name__ == "__main__":
    run_command(main)
