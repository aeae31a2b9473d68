"""Stage `clip`: the CLIP that `params.yaml` names: a tag of open_clip, a file, a folder, or trained here."""

import os
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from torch import nn

from fsgr_model.artifacts import fingerprint, load_json, sha256_file, whole_folder
from fsgr_model.clip.demo_training import ClipTraining, Pairs, retrieval_accuracy
from fsgr_model.clip.hf_folder import read_clip_folder
from fsgr_model.clip.loading import (
    build_model,
    build_preprocess,
    build_tokenizer,
    default_preprocessing,
    first_line,
    save_clip,
)
from fsgr_model.clip.open_clip_api import open_clip
from fsgr_model.clip.split import vision_tower
from fsgr_model.clip.towers import make_trunk
from fsgr_model.clip.weight_files import CHECKPOINT_ERRORS, is_torchscript, load_weights, put_weights
from fsgr_model.datasets.normal_form import IMAGES, PRETRAINING
from fsgr_model.errors import UserError
from fsgr_model.params import ClipTrainingParams, RuntimeParams
from fsgr_model.resources import ON_DISK, error_number
from fsgr_model.training.resume import resume_point

Config = dict[str, Any]
LOCAL_DIR = "local-dir:"
FOLDER = "folder"
# Of what a resume point of the training holds.
RESUME_VERSION = 3


def prepare_clip(
    model: str,
    pretrained: str,
    resize_mode: str,
    training: ClipTrainingParams | None,
    dataset: Path,
    runtime: RuntimeParams,
    out: Path,
) -> None:
    """Write `data/clip/`.

    Args:
        model, pretrained, resize_mode, training: the parameters of section `clip`, but for `cut`, which only
            later stages use. `pretrained: demo` trains on the training split of `dataset`, or on the
            pictures for CLIP alone where it has such.

    Raises:
        UserError: unknown architecture or tag, no connection, or weights that do not fit.
    """
    resize = {"resize_mode": resize_mode}
    folder = clip_folder(model, pretrained)
    # What training holds in it, its resume point, is given up only once the weights are written.
    with ExitStack() as held:
        if folder:
            name, (clip, config, wanted, origin) = folder.name, load_folder(folder)
        else:
            name, config = read_config(model)
            if pretrained == "demo":
                assert training is not None, "ClipParams sees to it"
                clip, config, wanted, origin = train_demo(
                    name, config, resize, training, dataset, runtime, held
                )
            else:
                clip, config, wanted, origin = load_pretrained(name, config, pretrained)
        preprocessing = default_preprocessing(config, wanted | resize)
        make_trunk(clip, cut=0)
        with whole_folder(out) as partial:
            save_clip(partial, clip, name, config, preprocessing, origin)
    print(f"clip: {name}, {'QuickGELU' if config.get('quick_gelu') else 'GELU'}, weights: {origin}")


def train_demo(
    name: str,
    config: Config,
    resize: Config,
    training: ClipTrainingParams,
    dataset: Path,
    runtime: RuntimeParams,
    held: ExitStack,
) -> tuple[nn.Module, Config, Config, Config]:
    """Train a CLIP here; the same four things as `load_pretrained` returns.

    The resume point is opened in `held`, and deleted when that ends without an error.
    """
    torch.manual_seed(training.seed)
    model = build_model(config, name)
    vision_tower(model, cut=0)
    preprocess = build_preprocess(default_preprocessing(config, resize))
    tokenizer = build_tokenizer(config)
    apart = dataset / PRETRAINING
    drawn = (apart / IMAGES).exists()
    place, what = (apart, "pictures of its own") if drawn else (dataset, "training images")
    train = Pairs(place, "train", preprocess, tokenizer, runtime)
    key = fingerprint([RESUME_VERSION, config, resize, training.model_dump(), train.key])
    point = held.enter_context(resume_point("clip", key))
    ClipTraining(model, train, training, point, runtime.save_minutes).run()
    unseen = Pairs(dataset, "val", preprocess, tokenizer, runtime)
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


def read_config(model: str) -> tuple[str, Config]:
    """Name and open_clip config of `clip.model`.

    Raises:
        UserError: neither an architecture of open_clip nor a JSON file with a config.
    """
    if model.endswith(".json"):
        config = load_json(Path(model))
        if not {"embed_dim", "vision_cfg", "text_cfg"} <= set(config):
            raise UserError(f"clip.model: {model} needs embed_dim, vision_cfg and text_cfg, as open_clip has")
        return Path(model).stem, config
    config = open_clip.get_model_config(model)
    if config is None:
        raise UserError(
            f"clip.model: open_clip has no architecture {model!r}; open_clip.list_models() names them all, "
            "or give the path of a JSON config"
        )
    return model, config


def load_pretrained(name: str, config: Config, pretrained: str) -> tuple[nn.Module, Config, Config, Config]:
    """Model with weights, its config, the preprocessing that the weights want, and where they come from.

    The activation (GELU or QuickGELU) is the one that the weights were trained with: a tag says so, and so
    does an archive of OpenAI's; for any other file the architecture's name does (`ViT-B-16-quickgelu`).
    """
    tag = open_clip.get_pretrained_cfg(name, pretrained)
    if not tag and not Path(pretrained).is_file():
        tags = ", ".join(open_clip.list_pretrained_tags_by_model(name)) or "none"
        raise UserError(
            f"clip.pretrained: {pretrained!r} is no file, and no tag of {name} (its tags: {tags}); "
            "give one of them, the path of a checkpoint, or demo"
        )
    path = _download(name, pretrained, tag) if tag else Path(pretrained)
    if tag or is_torchscript(path):
        config = {**config, "quick_gelu": tag.get("quick_gelu", False) if tag else True}
    else:
        note_activation(name, config)
    model = build_model(config, name)
    load_weights(model, path, name)
    origin = {"pretrained": pretrained if tag else path.name, "file_sha256": sha256_file(path)}
    return model, config, tag, origin


def note_activation(name: str, config: Config) -> None:
    """A file of weights alone does not say with which activation they were trained: tell if there are two."""
    other = f"{name}-quickgelu"
    if not config.get("quick_gelu") and open_clip.get_model_config(other):
        print(
            f"note: {name} has GELU; weights made with QuickGELU, as OpenAI's, MetaCLIP's and DFN's, want "
            f"clip.model: {other}"
        )


def clip_folder(model: str, pretrained: str) -> Path | None:
    """The folder that `clip.model` names, with open_clip's `local-dir:` before it or without; None if none.

    Raises:
        UserError: there is no such folder, or `clip.pretrained` speaks of other weights than its own.
    """
    folder = Path(model.removeprefix(LOCAL_DIR))
    if not folder.is_dir():
        if model.startswith(LOCAL_DIR):
            raise UserError(f"clip.model: there is no folder {folder}; give the place of a CLIP's own folder")
        if pretrained == FOLDER:
            raise UserError(f"clip.pretrained is {FOLDER}, but clip.model is {model}, which is no folder")
        return None
    if pretrained != FOLDER:
        raise UserError(
            f"clip.model is the folder {folder}, which holds its own weights; set clip.pretrained: {FOLDER}"
        )
    return folder


def load_folder(folder: Path) -> tuple[nn.Module, Config, Config, Config]:
    """The CLIP of a folder; the same four things as `load_pretrained` returns."""
    found = read_clip_folder(folder)
    model = build_model(found.config, folder.name)
    try:
        put_weights(model, found.weights)
    except CHECKPOINT_ERRORS as error:
        raise UserError(
            f"clip.model: the weights {found.file} do not fit the config beside them: {first_line(error)}; "
            "get the whole repository again"
        ) from None
    origin = {"pretrained": found.file.name, "file_sha256": sha256_file(found.file)}
    return model, found.config, found.preprocessing, origin


def _download(name: str, pretrained: str, tag: Config) -> Path:
    if not sys.stderr.isatty():
        # The hub's own word for: show the progress all the same.
        os.environ.setdefault("TQDM_POSITION", "-1")
    try:
        return Path(open_clip.download_pretrained(tag))
    except (OSError, RuntimeError) as error:
        if error_number(error) in ON_DISK:
            raise  # of this machine, and told as such
        raise UserError(
            f"clip.pretrained: weights {pretrained!r} of {name} cannot be downloaded: {first_line(error)}; "
            f"connect to the internet once (a download that stopped goes on), or {without_connection(tag)}"
        ) from None


def without_connection(tag: Config) -> str:
    """How to get the weights of a tag on another machine; with the config, which knows the activation."""
    hub = tag.get("hf_hub", "").rstrip("/")
    if not hub:
        return f"get them elsewhere from {tag.get('url', 'their publisher')} and give the file's path"
    return (
        f"get the weights and open_clip_config.json elsewhere from huggingface.co/{hub}, set clip.model to "
        f"the folder that they are in and clip.pretrained: {FOLDER}"
    )
