"""Feature extraction: how much of the matmul limit is left when JPEGs are decoded and rows written beside it.

    python -m bench.extraction
    python -m bench.extraction --memory-images 100000

The trunk is ViT-B/16's below block 6 with random weights, the pictures are JPEGs of 640 x 480. The second
part runs a tiny trunk over one picture repeated under many names and watches the memory of all processes.
"""

import os
import tempfile
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch
from PIL import Image

from bench.destination import parser_of
from bench.limits import best_seconds, elapsed, large_product, measure_limits
from bench.rows import Row, publish
from bench.timing import matmul_flops
from fsgr_model.clip.loading import Clip, load_clip, save_clip
from fsgr_model.clip.model_building import build_model, default_preprocessing
from fsgr_model.clip.open_clip_api import open_clip
from fsgr_model.clip.towers import AnyTrunk, make_trunk
from fsgr_model.config.params import RuntimeParams
from fsgr_model.datasets.image_file import open_rgb
from fsgr_model.datasets.normal_form import (
    CaptionRecord,
    Dataset,
    ImageRecord,
    Split,
    read_images,
    write_dataset,
)
from fsgr_model.kernels.onednn_layers import use_onednn_for_inference
from fsgr_model.kernels.products import onednn_pays
from fsgr_model.runtime.artifacts import sha256_file
from fsgr_model.runtime.device import pick_device
from fsgr_model.runtime.errors import run_command
from fsgr_model.runtime.row_store import RowFormat, RowWriter
from pipeline.features import extract_features

CUT = 6
SIZE = (640, 480)
TINY = {
    "embed_dim": 8,
    "vision_cfg": {"image_size": 16, "patch_size": 8, "layers": 2, "width": 16, "head_width": 8},
    "text_cfg": {"context_length": 8, "vocab_size": 49408, "width": 8, "heads": 2, "layers": 1},
}
PLAIN = "decoding, network and writing in turn"
SECONDS_BETWEEN_LOOKS = 0.25


@dataclass(frozen=True)
class Work:
    """What is extracted: a CLIP cut at a block, and how many pictures of which size."""

    config: dict[str, Any]
    cut: int
    images: int
    size: tuple[int, int]
    runtime: RuntimeParams


def main(arguments: list[str] | None = None) -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--images", type=int, default=256)
    parser.add_argument("--memory-images", type=int, default=5_000, help="pictures of the second part")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--batch", type=int, default=16)
    given = parser.parse_args(arguments)
    runtime = RuntimeParams(workers=given.workers, image_batch=given.batch)
    device = pick_device()
    work = Work(open_clip.get_model_config("ViT-B-16"), CUT, given.images, SIZE, runtime)
    many = Work(TINY, 1, given.memory_images, (64, 48), RuntimeParams(workers=given.workers, image_batch=256))
    limits = measure_limits(device)
    with tempfile.TemporaryDirectory() as folder:
        os.environ["DVC_ROOT"] = folder
        rows = [
            *measure(Path(folder) / "speed", work, device),
            memory_row(Path(folder) / "memory", many),
        ]
    publish("extraction", rows, limits, device, out=given.out, page=given.page)


def measure(folder: Path, work: Work, device: torch.device) -> list[Row]:
    """The trunk alone, the whole stage, and the same work in turn.

    The stage's rate is that of all pictures but the first quarter, whose time stands for its start. Limits
    are measured before and after it, and shares are of their means.
    """
    dataset, clip_folder = make_inputs(folder / "all", work, same=False)
    start = replace(work, images=work.images // 4)
    few, _ = make_inputs(folder / "start", start, same=False)
    clip = load_clip(clip_folder, device)
    trunk = make_trunk(clip.model, work.cut)
    handed = make_trunk(load_clip(clip_folder, device).model, work.cut)
    use_onednn_for_inference(handed)
    batch = work.runtime.image_batch
    images = torch.randn(batch, 3, *clip_size(work), device=device)
    with torch.no_grad():
        flops = matmul_flops(partial(trunk, images[:1]))
        alone, plain_alone = (batch / best_seconds(partial(one, images), device) for one in (handed, trunk))
    products = {"matmul": large_product(device, torch.float32)}
    if device.type == "cpu" and onednn_pays():
        products["matmul onednn"] = large_product(device, torch.float32, onednn=True)
    before = {name: product.rate(device) for name, product in products.items()}
    # The first run loads what no later one loads again.
    seconds = [
        elapsed(
            partial(
                extract_features,
                made,
                clip_folder=clip_folder,
                cut=work.cut,
                cache_dtype="float16",
                runtime=work.runtime,
                out=folder / "out",
            )
        )
        for made in (few, few, dataset)
    ]
    stage = (work.images - start.images) / (seconds[2] - seconds[1])
    limit = {name: (before[name] + product.rate(device)) / 2 for name, product in products.items()}
    plain = work.images / elapsed(lambda: in_turn(dataset, clip, trunk, folder / "plain.h5"), device)

    def row(what: str, rate: float, name: str = "matmul", **more: Any) -> Row:
        return Row(what, rate, "images/s", rate * flops / 1e9 / limit[name], name, **more)

    rows = [
        row("trunk alone", alone),
        row("extraction", stage, ratio=stage / plain, than=PLAIN, aim="85% of matmul"),
        row(PLAIN, plain),
    ]
    if "matmul onednn" in limit:
        rows += [
            row("extraction, by oneDNN's limit", stage, "matmul onednn"),
            row("trunk alone, its weights not in oneDNN's layout", plain_alone),
        ]
    return rows


def memory_row(folder: Path, work: Work) -> Row:
    """Growth of the largest memory from the first third of the pictures to the last one."""
    dataset, clip_folder = make_inputs(folder, work, same=True)
    used: list[float] = []
    with Repeated(lambda: used.append(memory_of_all())):
        extract_features(
            dataset,
            clip_folder=clip_folder,
            cut=work.cut,
            cache_dtype="float16",
            runtime=work.runtime,
            out=folder / "out",
        )
    third = max(1, len(used) // 3)
    grown = max(used[-third:]) - max(used[:third])
    return Row(f"memory grown over {work.images:,} pictures", grown / 1e6, "MB", aim="flat")


class Repeated:
    """Calls a function again and again in a thread for as long as the block runs."""

    def __init__(self, look: Callable[[], None]) -> None:
        self.look, self.over = look, threading.Event()
        self.thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        while not self.over.wait(SECONDS_BETWEEN_LOOKS):
            self.look()
        self.look()

    def __enter__(self) -> None:
        self.thread.start()

    def __exit__(self, *error: object) -> None:
        self.over.set()
        self.thread.join()


def memory_of_all() -> float:
    """Bytes that this process and its workers hold of their own: pages of files do not count."""
    total = 0
    for process in [psutil.Process(), *psutil.Process().children(recursive=True)]:
        try:
            memory = process.memory_info()
        except psutil.NoSuchProcess:
            continue
        total += memory.rss - getattr(memory, "shared", 0)
    return total


def in_turn(dataset: Path, clip: Clip, trunk: AnyTrunk, path: Path) -> None:
    """One picture after the other in one process, each batch written before the next is read."""
    records = read_images(dataset, "train")
    row_format = RowFormat("tokens", trunk.token_shape, "float16")
    device = next(trunk.parameters()).device
    with (
        RowWriter(path, row_format, [record.image_id for record in records], {}) as writer,
        torch.inference_mode(),
    ):
        for record in records:
            image = clip.preprocess(open_rgb(Path(record.path)))[None].to(device)
            writer.write([record.image_id], trunk(image).cpu().numpy())


def clip_size(work: Work) -> tuple[int, int]:
    side = work.config["vision_cfg"]["image_size"]
    return side, side


def make_inputs(folder: Path, work: Work, same: bool) -> tuple[Path, Path]:
    """A dataset in the normal form and a CLIP; `same`: one picture under all the names."""
    dataset, clip_folder = folder / "dataset", folder / "clip"
    (dataset / "images").mkdir(parents=True)
    torch.manual_seed(0)
    preprocessing = default_preprocessing(work.config, {"resize_mode": "squash"})
    save_clip(
        clip_folder,
        build_model(work.config, "bench"),
        "bench",
        work.config,
        preprocessing=preprocessing,
        origin={},
    )
    pictures = [
        picture(dataset / "images" / f"{number}.jpg", work.size, number)
        for number in range(1 if same else work.images)
    ]
    others: dict[int, Split] = {work.images: "val", work.images + 1: "test"}
    images, captions = [], []
    for number in range(work.images + 2):
        path, size, key = pictures[number % len(pictures)]
        images.append(ImageRecord(number, others.get(number, "train"), str(path), *work.size, size, key))
        captions.append(CaptionRecord(number, number, "a picture", ["a", "picture"]))
    write_dataset(dataset, Dataset(images, captions, {"categories": [], "annotations": []}, {}))
    return dataset, clip_folder


def picture(path: Path, size: tuple[int, int], seed: int) -> tuple[Path, int, str]:
    """A JPEG of soft colours with some grain, about as large as a photograph; its bytes and their digest."""
    dice = np.random.default_rng(seed)
    soft = Image.fromarray(dice.integers(0, 256, (12, 16, 3), dtype=np.uint8)).resize(
        size, Image.Resampling.BICUBIC
    )
    grain = dice.normal(0, 12, (size[1], size[0], 3))
    Image.fromarray((np.asarray(soft) + grain).clip(0, 255).astype(np.uint8)).save(path, quality=90)
    return path, path.stat().st_size, sha256_file(path)


if __name__ == "__main__":
    run_command(main)
