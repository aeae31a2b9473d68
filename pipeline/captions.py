"""Stage `captions`: beam search on the test split, as COCO result files.

With members (`ensemble`), the network after SCST also chooses words together with them: `ensemble.json`.
"""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from fsgr_model.clip.loading import load_clip
from fsgr_model.config.decode_params import DecodeParams
from fsgr_model.config.model_params import ModelParams
from fsgr_model.config.params import Params, load_params
from fsgr_model.datasets.normal_form import read_images
from fsgr_model.inference.captioning import Member, caption_images
from fsgr_model.inference.members import member_files, read_members
from fsgr_model.kernels.inference import speed_up_inference
from fsgr_model.network.assembly import Parts, build_captioner, load_weights, read_parts
from fsgr_model.runtime.artifacts import save_json, sha256_file
from fsgr_model.runtime.device import Precision, pick_device
from fsgr_model.runtime.errors import run_command
from fsgr_model.runtime.processes import run_in_processes
from fsgr_model.runtime.progress import progress
from fsgr_model.runtime.row_store import RowStore, groups_of
from fsgr_model.runtime.world import ALONE, World

DATA = Path("data")


def main() -> None:
    params = load_params()
    work = partial(caption_test_split, params)
    run_in_processes(params.runtime.processes, "pipeline.captions", work, launcher=params.runtime.launcher)


def caption_test_split(params: Params, world: World) -> None:
    """Write the captions of both networks, and those of the ensemble, if there is one."""
    others = member_files(DATA / "members", params.ensemble)
    parts, features = read_test_split(DATA, params.model)
    caption = partial(
        caption_split,
        parts,
        features,
        model=params.model,
        decode=params.decode,
        precision=params.precision,
        batch_size=params.runtime.caption_batch,
        world=world,
    )
    found: dict[str, Any] = {phase: caption(DATA / "models" / phase) for phase in ("xe", "scst")}
    if others:
        images = read_images(DATA / "dataset", "test")
        members = read_members(others, features, images, words=parts.vocabulary)
        found["ensemble"] = caption(DATA / "models" / "scst", members=members)
        found["members"] = {name: sha256_file(file) for name, file in others.items()}
    if world.rank == 0:
        for name, content in found.items():
            save_json(DATA / "captions" / f"{name}.json", content)


def read_test_split(data: Path, model: ModelParams) -> tuple[Parts, RowStore]:
    """What both networks are built of, and the features of the test split, which say where CLIP was cut."""
    clip = load_clip(data / "clip", pick_device())
    features = RowStore(data / "features" / "test.h5", clip.identity)
    return read_parts(data, clip, features.identity, model.semantics), features


def caption_split(
    parts: Parts,
    features: RowStore,
    weights: Path,
    model: ModelParams,
    *,
    decode: DecodeParams,
    precision: Precision,
    batch_size: int,
    members: Sequence[Member] = (),
    world: World = ALONE,
) -> list[dict[str, int | str]]:
    """COCO results, `[{"image_id": 1, "caption": "…"}]`, of all images with features, by ascending id.

    `members` choose words together with the network of these weights. Several processes take whole batches
    in turn; all return all captions.
    """
    # The seed does not matter, since every weight is read from the file.
    assembly = build_captioner(parts, model, seed=0)
    load_weights(weights, assembly)
    speed_up_inference(assembly.captioner)
    groups = groups_of(features.image_ids, batch_size)
    own = world.deal(groups)
    batches = world.rounds(own, len(groups))
    unit = "batches" if world.size == 1 else f"x {world.size} batches"
    caption = partial(caption_images, assembly, features, decode=decode, precision=precision, members=members)
    name = f"captions of {'the ensemble' if members else weights.name}"
    captions = [
        list(zip(group, caption(group), strict=True))
        for group in progress(batches, len(own), name, unit=unit)
    ]
    return [
        {"image_id": number, "caption": text} for group in world.collect(captions) for number, text in group
    ]


if __name__ == "__main__":
    run_command(main)
