"""Stage `clip`: the CLIP that `params.yaml` names: a tag of open_clip, a checkpoint file, or trained here."""

import pickle
import zipfile
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import nn

from fsgr_model.artifacts import fingerprint, load_json, sha256_file, whole_folder
from fsgr_model.clip.demo_training import Pairs, retrieval_accuracy, train_clip
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
from fsgr_model.errors import UserError
from fsgr_model.params import ClipTrainingParams, RuntimeParams

Config = dict[str, Any]
# What PyTorch and open_clip raise for files that are no checkpoint of this model.
CHECKPOINT_ERRORS = (
    RuntimeError,
    SafetensorError,
    pickle.UnpicklingError,
    EOFError,
    AttributeError,
    LookupError,
)
# Numbers that OpenAI's archives hold next to the weights.
OPENAI_EXTRAS = ("input_resolution", "context_length", "vocab_size")


def prepare_clip(
    model: str,
    pretrained: str,
    resize_mode: str,
    training: ClipTrainingParams | None,
    seed: int,
    dataset: Path,
    runtime: RuntimeParams,
    out: Path,
) -> None:
    """Write `data/clip/`.

    Args:
        model, pretrained, resize_mode, training: the parameters of section `clip`, but for `cut`, which only
            later stages use. `pretrained: demo` trains on the training split of `dataset`.

    Raises:
        UserError: unknown architecture or tag, no connection, or weights that do not fit.
    """
    name, config = read_config(model)
    resize = {"resize_mode": resize_mode}
    if pretrained == "demo":
        assert training is not None, "ClipParams sees to it"
        clip, config, wanted, origin = train_demo(name, config, resize, training, seed, dataset, runtime)
    else:
        clip, config, wanted, origin = load_pretrained(name, config, pretrained)
    preprocessing = default_preprocessing(config, wanted | resize)
    vision_tower(clip, cut=0)
    with whole_folder(out) as folder:
        save_clip(folder, clip, name, config, preprocessing, origin)
    print(f"clip: {name}, {'QuickGELU' if config.get('quick_gelu') else 'GELU'}, weights: {origin}")


def train_demo(
    name: str,
    config: Config,
    resize: Config,
    training: ClipTrainingParams,
    seed: int,
    dataset: Path,
    runtime: RuntimeParams,
) -> tuple[nn.Module, Config, Config, Config]:
    """Train a CLIP here; the same four things as `load_pretrained` returns."""
    torch.manual_seed(seed)
    model = build_model(config, name)
    vision_tower(model, cut=0)
    preprocess = build_preprocess(default_preprocessing(config, resize))
    tokenizer = build_tokenizer(config)
    train = Pairs(dataset, "train", preprocess, tokenizer, runtime)
    key = fingerprint([config, resize, training.model_dump(), seed, train.key])
    train_clip(model, train, training, seed, key)
    unseen = Pairs(dataset, "val", preprocess, tokenizer, runtime)
    accuracy = retrieval_accuracy(model, unseen)
    print(f"clip: finds the first caption of {accuracy:.1%} of {len(unseen)} validation images")
    return model, config, {}, {"trained_on": f"{len(train)} training images", "seed": seed}


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
    archive = is_torchscript(path)
    if tag or archive:
        config = {**config, "quick_gelu": tag.get("quick_gelu", False) if tag else True}
    model = build_model(config, name)
    load_weights(model, path, archive, name)
    origin = {"pretrained": pretrained if tag else path.name, "file_sha256": sha256_file(path)}
    return model, config, tag, origin


def is_torchscript(path: Path) -> bool:
    """Whether a file is a TorchScript archive, the form in which OpenAI published CLIP."""
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any(name.split("/")[1:2] == ["constants.pkl"] for name in archive.namelist())


def load_weights(model: nn.Module, path: Path, archive: bool, name: str) -> None:
    """Load a checkpoint of any form that open_clip reads into `model`; every weight must be there.

    Raises:
        UserError: the file is broken, or is of another model.
    """
    try:
        if archive:
            weights = torch.jit.load(path, map_location="cpu").state_dict()
            model.load_state_dict({k: v.float() for k, v in weights.items() if k not in OPENAI_EXTRAS})
        else:
            open_clip.load_checkpoint(model, str(path), strict=True, weights_only=True)
    except CHECKPOINT_ERRORS as error:
        raise UserError(
            f"clip.pretrained: {path} cannot be loaded into {name}: {first_line(error)}; "
            "check that the file is whole and that clip.model names its architecture"
        ) from None


def _download(name: str, pretrained: str, tag: Config) -> Path:
    try:
        return Path(open_clip.download_pretrained(tag))
    except (OSError, RuntimeError) as error:
        raise UserError(
            f"clip.pretrained: weights {pretrained!r} of {name} cannot be downloaded: {first_line(error)}; "
            "connect to the internet once, or download them elsewhere and give the file's path"
        ) from None
