"""Stage `features`: every image through the frozen trunk of CLIP, once."""

import math
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch

from fsgr_model.clip.image_reading import check_files, read_batches
from fsgr_model.clip.loading import Clip, load_clip
from fsgr_model.clip.token_cache import CacheDtype, pack_tokens, refuse_unfinite, token_format, trunk_identity
from fsgr_model.clip.towers import AnyTrunk, make_trunk
from fsgr_model.config.params import RuntimeParams, load_params
from fsgr_model.datasets.normal_form import SPLITS, ImageRecord, read_images
from fsgr_model.kernels.inference import speed_up_inference
from fsgr_model.runtime.artifacts import check_free_space, fingerprint
from fsgr_model.runtime.background_writer import BackgroundWriter
from fsgr_model.runtime.device import pick_device, tf32_products
from fsgr_model.runtime.errors import run_command
from fsgr_model.runtime.gpu_memory import suggest_batch_size
from fsgr_model.runtime.processes import run_in_processes
from fsgr_model.runtime.progress import progress
from fsgr_model.runtime.resume import shared_resume_point
from fsgr_model.runtime.row_store import RowWriter, groups_of, publish
from fsgr_model.runtime.world import ALONE, World

DATASET = Path("data/dataset")
CLIP = Path("data/clip")
FEATURES = Path("data/features")
# A CPU multiplies a fifth faster where the activations of a piece of the batch stay in its cache: ViT-B/16 on
# 2 cores, images/s by images at once: 10.8 (4), 10.6 (8), 9.0 (16), 8.2 (64).
CACHED_NUMBERS = 2**20


def extract_features(
    dataset: Path,
    *,
    clip_folder: Path,
    cut: int,
    cache_dtype: CacheDtype,
    runtime: RuntimeParams,
    out: Path,
    world: World = ALONE,
) -> None:
    """Write `out`/{train,val,test}.h5: the tokens entering block `cut` as rows of `token_cache`, by image id.

    An interrupted run resumes where it stopped. Several processes take whole batches in turn, the same ones
    as a single process, and fill the same files.

    Raises:
        UserError: image files that are missing, changed or broken; too little disk space.
    """
    device = pick_device()
    clip = load_clip(clip_folder, device)
    trunk = make_trunk(clip.model, cut)
    speed_up_inference(trunk)
    images = read_images(dataset)
    check_files(images)
    records = {split: [image for image in images if image.split == split] for split in SPLITS}
    row_format = token_format(trunk.token_shape, cache_dtype)
    identity = trunk_identity(clip.identity, cut, cache_dtype)
    key = fingerprint([identity, [(r.image_id, r.sha256) for split in SPLITS for r in records[split]]])
    with shared_resume_point("features", key, world) as point, tf32_products(device):
        writers = {
            split: RowWriter(
                point.folder / f"{split}.h5", row_format, [r.image_id for r in rows], identity, world=world
            )
            for split, rows in records.items()
        }
        check_free_space(point.folder, row_format.bytes * sum(len(w.missing()) for w in writers.values()))
        for split, writer in writers.items():
            name = f"features of {split}"
            with writer:
                _fill(
                    writer,
                    records[split],
                    clip,
                    trunk,
                    cache_dtype=cache_dtype,
                    runtime=runtime,
                    name=name,
                    world=world,
                )
        # All rows are in the files.
        world.wait()
        if world.rank == 0:
            publish(point.folder, out, [f"{split}.h5" for split in SPLITS])


@torch.inference_mode()
def _fill(
    writer: RowWriter,
    records: Sequence[ImageRecord],
    clip: Clip,
    trunk: AnyTrunk,
    *,
    cache_dtype: CacheDtype,
    runtime: RuntimeParams,
    name: str,
    world: World,
) -> None:
    record_of = {record.image_id: record for record in records}
    device = next(trunk.parameters()).device
    groups = groups_of(writer.missing(), runtime.image_batch)
    own = [record_of[image_id] for group in world.deal(groups) for image_id in group]
    read = read_batches(own, clip.preprocess, batch=runtime.image_batch, workers=runtime.workers)
    batches = world.rounds(read, len(groups))
    total, left = (math.ceil(n / world.size) for n in (len(records) / runtime.image_batch, len(groups)))
    unit = "batches" if world.size == 1 else f"x {world.size} batches"
    with BackgroundWriter(writer) as background:
        for ids, images in progress(batches, total, name, unit=unit, done=total - left):
            encode = partial(_encode, trunk, images.to(device, non_blocking=True))
            with suggest_batch_size(encode, len(ids), "runtime.image_batch"):
                rows = pack_tokens(encode(len(ids)), cache_dtype)
            # Copied to the CPU in the writer's thread, so that the next batch does not wait for this one.
            background.write(ids, partial(_to_cpu, ids, rows))


def _encode(trunk: AnyTrunk, images: torch.Tensor, count: int) -> torch.Tensor:
    if images.device.type != "cpu":
        return trunk(images[:count])
    piece = max(1, CACHED_NUMBERS // math.prod(trunk.token_shape))
    return torch.cat([trunk(part) for part in images[:count].split(piece)])


def _to_cpu(ids: Sequence[int], rows: torch.Tensor) -> np.ndarray:
    found = rows.cpu().numpy()
    refuse_unfinite(ids, found)
    return found


def main() -> None:
    params = load_params()

    def work(world: World) -> None:
        extract_features(
            DATASET,
            clip_folder=CLIP,
            cut=params.clip.cut,
            cache_dtype=params.clip.cache_dtype,
            runtime=params.runtime,
            out=FEATURES,
            world=world,
        )

    run_in_processes(params.runtime.processes, "pipeline.features", work, launcher=params.runtime.launcher)


if __name__ == "__main__":
    run_command(main)
