"""Stage `clip`: the CLIP that all features, labels and word embeddings come from."""

from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from torch import nn

from fsgr_model.clip.loading import save_clip
from fsgr_model.clip.model_building import (
    build_model,
    build_preprocess,
    build_tokenizer,
    default_preprocessing,
)
from fsgr_model.clip.sources import clip_folder, load_folder, load_pretrained, read_config
from fsgr_model.clip.text_files import refuse_foreign_text
from fsgr_model.clip.towers import check_tower
from fsgr_model.config.params import ClipTrainingParams, RuntimeParams, load_params
from fsgr_model.datasets.normal_form import IMAGES, PRETRAINING, read_lists
from fsgr_model.runtime.artifacts import fingerprint, whole_folder
from fsgr_model.runtime.errors import run_command
from fsgr_model.runtime.processes import run_in_processes
from fsgr_model.runtime.resume import shared_resume_point
from fsgr_model.runtime.world import ALONE, World
from fsgr_model.training.clip_pairs import Pairs, pairs_key
from fsgr_model.training.clip_training import retrieval_accuracy, train_clip

DATASET = Path("data/dataset")
CLIP = Path("data/clip")
TRAINED_HERE = "demo"
Config = dict[str, Any]
# Part of the contents of the training's resume point.
RESUME_VERSION = 4


def prepare_clip(
    model: str,
    *,
    pretrained: str,
    resize_mode: str,
    preprocess_as: str | None,
    training: ClipTrainingParams | None,
    dataset: Path,
    runtime: RuntimeParams,
    out: Path,
    world: World = ALONE,
) -> None:
    """Write `data/clip/`. Several processes share the training, if there is one; rank 0 does the rest.

    Args:
        model, pretrained, resize_mode, preprocess_as, training: the parameters of section `clip`, but for
            `cut`, which only later stages use. `pretrained: demo` trains on the training split of `dataset`,
            or on the pictures for CLIP alone where it has such.

    Raises:
        UserError: unknown architecture or tag, no connection, or weights that do not fit.
    """
    trains = pretrained == TRAINED_HERE
    if world.rank > 0 and not trains:
        return
    resize = {"resize_mode": resize_mode}
    folder = clip_folder(model, pretrained)
    # Training's resume point, which it holds, is deleted only after the weights are written.
    with ExitStack() as held:
        if folder:
            name, (clip, config, wanted, origin) = folder.name, load_folder(folder, preprocess_as)
        else:
            name, config = read_config(model)
            if trains:
                assert training is not None, "ClipParams sees to it"
                clip, config, wanted, origin = train_demo(
                    name, config, resize, training, dataset=dataset, runtime=runtime, held=held, world=world
                )
            else:
                clip, config, wanted, origin = load_pretrained(name, config, pretrained, preprocess_as)
        if world.rank > 0:
            return
        preprocessing = default_preprocessing(config, wanted | resize)
        check_tower(clip)
        with whole_folder(out) as partial:
            save_clip(partial, clip, name, config, preprocessing=preprocessing, origin=origin)
    print(f"clip: {name}, {'QuickGELU' if config.get('quick_gelu') else 'GELU'}, weights: {origin}")


def train_demo(
    name: str,
    config: Config,
    resize: Config,
    training: ClipTrainingParams,
    *,
    dataset: Path,
    runtime: RuntimeParams,
    held: ExitStack,
    world: World = ALONE,
) -> tuple[nn.Module, Config, Config, Config]:
    """Train a CLIP here; the same four things as `load_pretrained` returns.

    The resume point is opened in `held`, and deleted when that ends without an error.
    """
    refuse_foreign_text(name, config)
    torch.manual_seed(training.seed)
    model = build_model(config, name)
    check_tower(model)
    preprocess = build_preprocess(default_preprocessing(config, resize))
    tokenizer = build_tokenizer(config)
    apart = dataset / PRETRAINING
    drawn = (apart / IMAGES).exists()
    place, what = (apart, "pictures of its own") if drawn else (dataset, "training images")
    lists = read_lists(place)
    records = lists.images_of("train")
    seen = pairs_key(records, lists.captions)
    key = fingerprint([RESUME_VERSION, config, resize, training.model_dump(), seen])
    point = held.enter_context(shared_resume_point("clip", key, world))
    shared = point.folder / "pictures.h5" if world.together else None
    train = Pairs(records, lists.captions, preprocess, tokenizer, runtime=runtime, shared=shared, world=world)
    train_clip(model, train, training, point, save_minutes=runtime.save_minutes, world=world)
    if world.rank == 0:
        if place != dataset:
            lists = read_lists(dataset)
        unseen = Pairs(lists.images_of("val"), lists.captions, preprocess, tokenizer, runtime=runtime)
        accuracy = retrieval_accuracy(model, unseen)
        print(f"clip: finds the first caption of {accuracy:.1%} of {len(unseen)} validation images")
    return (
        model,
        config,
        {},
        {
            "trained_on": f"{len(train)} {what}",
            "seed": training.seed,
        },
    )


def main() -> None:
    params = load_params()

    def work(world: World) -> None:
        prepare_clip(
            model=params.clip.model,
            pretrained=params.clip.pretrained,
            resize_mode=params.clip.resize_mode,
            preprocess_as=params.clip.preprocess_as,
            training=params.clip.training,
            dataset=DATASET,
            runtime=params.runtime,
            out=CLIP,
            world=world,
        )

    # Weights that come from elsewhere need one process.
    runtime = params.runtime if params.clip.pretrained == TRAINED_HERE else RuntimeParams(processes=1)
    run_in_processes(runtime.processes, "pipeline.clip", work, launcher=runtime.launcher)


if __name__ == "__main__":
    run_command(main)
