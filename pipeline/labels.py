"""Stage `labels`: a MaskCLIP label map of every image."""

import math
from functools import partial
from pathlib import Path

import numpy as np
import torch

from fsgr_model.clip.codebook import Codebook, load_codebook
from fsgr_model.clip.loading import load_clip
from fsgr_model.clip.maskclip import label_identity, label_patches
from fsgr_model.clip.token_cache import CacheDtype, open_of_trunk, read_tokens, trunk_identity
from fsgr_model.clip.towers import AnyTail, make_tail
from fsgr_model.config.params import LabelsParams, RuntimeParams, load_params
from fsgr_model.datasets.normal_form import SPLITS
from fsgr_model.runtime.artifacts import fingerprint
from fsgr_model.runtime.device import pick_device, tf32_products
from fsgr_model.runtime.errors import UserError, run_command
from fsgr_model.runtime.gpu_memory import suggest_batch_size
from fsgr_model.runtime.processes import run_in_processes
from fsgr_model.runtime.progress import progress
from fsgr_model.runtime.resume import shared_resume_point
from fsgr_model.runtime.row_store import RowFormat, RowStore, RowWriter, groups_of, publish
from fsgr_model.runtime.world import ALONE, World

CLIP = Path("data/clip")
CODEBOOK = Path("data/codebook")
FEATURES = Path("data/features")
LABELS = Path("data/labels")


def make_label_maps(
    clip_folder: Path,
    cut: int,
    codebook_folder: Path,
    *,
    cache_dtype: CacheDtype,
    features: Path,
    params: LabelsParams,
    runtime: RuntimeParams,
    out: Path,
    world: World = ALONE,
) -> None:
    """Write `out`/{train,val,test}.h5: rows of the codebook, uint16 [N, G], by image id.

    An interrupted run resumes where it stopped. Several processes take whole batches in turn.

    Raises:
        UserError: features or codebook were made with another CLIP, another cut or another rounding.
    """
    device = pick_device()
    clip = load_clip(clip_folder, device)
    codebook = load_codebook(codebook_folder)
    check_codebook(codebook, clip.identity["weights"])
    tail = make_tail(clip.model, cut, params.attention)
    expected = trunk_identity(clip.identity, cut, cache_dtype)
    stores = {split: open_of_trunk(features / f"{split}.h5", expected) for split in SPLITS}
    identity = label_identity(expected, codebook.identity, params)
    key = fingerprint([identity, [(store.identity, store.image_ids) for store in stores.values()]])
    with shared_resume_point("labels", key, world) as point, tf32_products(device):
        for split, store in stores.items():
            patches = math.prod(tail.grid_size)
            row_format = RowFormat("labels", (patches,), "uint16")
            path = point.folder / f"{split}.h5"
            with RowWriter(path, row_format, store.image_ids, identity, world=world) as writer:
                _label(
                    writer,
                    store,
                    tail,
                    codebook.embeddings_KE,
                    params=params,
                    batch=runtime.image_batch,
                    split=split,
                    world=world,
                )
        # All rows are in the files.
        world.wait()
        if world.rank == 0:
            publish(point.folder, out, [f"{split}.h5" for split in SPLITS])


def check_codebook(codebook: Codebook, weights: str) -> None:
    """Refuse a codebook whose text embeddings come from another CLIP.

    Raises:
        UserError: it does; the message gives both fingerprints.
    """
    found = codebook.identity["weights"]
    if found != weights:
        raise UserError(
            f"the codebook was made with CLIP weights {found[:12]}…, this run has {weights[:12]}…; "
            "run dvc repro codebook"
        )


def _label(
    writer: RowWriter,
    store: RowStore,
    tail: AnyTail,
    codebook_KE: torch.Tensor,
    *,
    params: LabelsParams,
    batch: int,
    split: str,
    world: World,
) -> None:
    device = tail.device
    groups = groups_of(writer.missing(), batch)
    own = world.deal(groups)
    batches = world.rounds(own, len(groups))
    unit = "batches" if world.size == 1 else f"x {world.size} batches"
    for ids in progress(batches, len(own), f"label maps of {split}", unit=unit):
        tokens_BTW = read_tokens(store, ids, device)
        label = partial(_label_first, tail, tokens_BTW, codebook_KE.to(device), params=params)
        with suggest_batch_size(label, len(ids), "runtime.image_batch"):
            labels_BG = label(len(ids))
        writer.write(ids, labels_BG.cpu().numpy().astype(np.uint16))


def _label_first(
    tail: AnyTail, tokens_BTW: torch.Tensor, codebook_KE: torch.Tensor, images: int, *, params: LabelsParams
) -> torch.Tensor:
    return label_patches(tail, tokens_BTW[:images], codebook_KE, params)


def main() -> None:
    params = load_params()

    def work(world: World) -> None:
        make_label_maps(
            CLIP,
            params.clip.cut,
            CODEBOOK,
            cache_dtype=params.clip.cache_dtype,
            features=FEATURES,
            params=params.labels,
            runtime=params.runtime,
            out=LABELS,
            world=world,
        )

    run_in_processes(params.runtime.processes, "pipeline.labels", work, launcher=params.runtime.launcher)


if __name__ == "__main__":
    run_command(main)
