"""The pictures that a CLIP is trained on: in memory, or in one file that several processes fill and read."""

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from fsgr_model.clip.image_reading import Preprocess, read_batches
from fsgr_model.config.params import RuntimeParams
from fsgr_model.datasets.normal_form import ImageRecord
from fsgr_model.runtime.progress import progress
from fsgr_model.runtime.row_cache import DiskRows, Rows
from fsgr_model.runtime.row_store import RowFormat, RowStore, RowWriter, groups_of
from fsgr_model.runtime.world import ALONE, World

NAME = "images of CLIP's training"


class Pictures:
    """Pictures in memory, float16 [N, 3, H, W], by image id."""

    def __init__(self, image_ids: Sequence[int], image_NCHW: Tensor) -> None:
        self.row_of = {image_id: row for row, image_id in enumerate(image_ids)}
        self.image_NCHW = image_NCHW

    def tensors(self, image_ids: Sequence[int]) -> Tensor:
        """[B, 3, H, W] float16."""
        return self.image_NCHW[torch.tensor([self.row_of[image_id] for image_id in image_ids])]


def read_pictures(
    records: Sequence[ImageRecord],
    preprocess: Preprocess,
    runtime: RuntimeParams,
    *,
    shared: Path | None = None,
    world: World = ALONE,
) -> Rows:
    """Decode the pictures; of several processes, each decodes some of them into the file `shared`."""
    if shared is None:
        batches = read_batches(records, preprocess, batch=runtime.image_batch, workers=runtime.workers)
        shown = progress(batches, math.ceil(len(records) / runtime.image_batch), NAME, unit="batches")
        found = torch.cat([images.half() for _, images in shown])
        return Pictures([record.image_id for record in records], found)
    shape = tuple(preprocess(Image.new("RGB", (1, 1))).shape)
    row_format = RowFormat("pictures", shape, np.dtype(np.float16).str)
    with RowWriter(shared, row_format, [r.image_id for r in records], {}, world=world) as writer:
        _fill(writer, records, preprocess, runtime=runtime, world=world)
    # All rows are in the file.
    world.wait()
    return DiskRows(RowStore(shared, {}))


def _fill(
    writer: RowWriter,
    records: Sequence[ImageRecord],
    preprocess: Preprocess,
    *,
    runtime: RuntimeParams,
    world: World,
) -> None:
    record_of = {record.image_id: record for record in records}
    groups = groups_of(writer.missing(), runtime.image_batch)
    own = [record_of[image_id] for group in world.deal(groups) for image_id in group]
    read = read_batches(own, preprocess, batch=runtime.image_batch, workers=runtime.workers)
    rounds, unit = math.ceil(len(groups) / world.size), f"x {world.size} batches"
    for ids, image_BCHW in progress(world.rounds(read, len(groups)), rounds, NAME, unit=unit):
        writer.write(ids, image_BCHW.half().numpy())
