"""Where a CLIP comes from: a tag of open_clip, a file, or a folder; its config, weights and preprocessing."""

from pathlib import Path
from typing import Any

from torch import nn

from fsgr_model.clip.hf_folder import read_clip_folder
from fsgr_model.clip.hub_download import fetch_weights
from fsgr_model.clip.loading import first_line
from fsgr_model.clip.model_building import build_model
from fsgr_model.clip.open_clip_api import open_clip
from fsgr_model.clip.picture_form import form_of_file, form_of_tag, refuse_preprocess_as
from fsgr_model.clip.text_files import FILES, fetch_tokenizer, text_files_beside, text_places
from fsgr_model.clip.weight_files import CHECKPOINT_ERRORS, is_torchscript, load_weights, put_weights
from fsgr_model.runtime.artifacts import load_json, sha256_file
from fsgr_model.runtime.errors import UserError
from fsgr_model.runtime.resources import ON_DISK, error_number

Config = dict[str, Any]
LOCAL_DIR = "local-dir:"
FOLDER = "folder"


def read_config(model: str) -> tuple[str, Config]:
    """Name and open_clip config of `clip.model`.

    Raises:
        UserError: it is neither an architecture of open_clip nor a JSON file with a config.
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


def load_pretrained(
    name: str, config: Config, pretrained: str, preprocess_as: str | None
) -> tuple[nn.Module, Config, Config, Config]:
    """Model with weights, its config, the preprocessing that the weights want, and where they come from.

    The activation (GELU or QuickGELU) is the one that the weights were trained with. A tag and an archive of
    OpenAI say which; for any other file the architecture's name does (`ViT-B-16-quickgelu`).
    """
    tag = open_clip.get_pretrained_cfg(name, pretrained)
    if not tag and not Path(pretrained).is_file():
        tags = ", ".join(open_clip.list_pretrained_tags_by_model(name)) or "none"
        raise UserError(
            f"clip.pretrained: {pretrained!r} is no file, and no tag of {name} (its tags: {tags}); "
            "give one of them, the path of a checkpoint, or demo"
        )
    wanted = _picture_form(name, pretrained, tag, preprocess_as)
    fetch_tokenizer(config)
    path = _download(name, config, pretrained, tag) if tag else Path(pretrained)
    if tag or is_torchscript(path):
        config = {**config, "quick_gelu": tag.get("quick_gelu", False) if tag else True}
    else:
        note_activation(name, config)
    model = build_model(config, name)
    load_weights(model, path, name)
    origin = {"pretrained": pretrained if tag else path.name, "file_sha256": sha256_file(path)}
    return model, config, wanted, origin


def _picture_form(name: str, pretrained: str, tag: Config, preprocess_as: str | None) -> Config:
    if tag:
        refuse_preprocess_as(preprocess_as, f"the tag {pretrained} says")
        return form_of_tag(tag)
    if is_torchscript(Path(pretrained)):
        refuse_preprocess_as(preprocess_as, f"{pretrained} is OpenAI's archive, which settles")
        return {}
    return form_of_file(name, preprocess_as)


def note_activation(name: str, config: Config) -> None:
    """Print a note where weights could have another activation, since a file of weights does not name it."""
    other = f"{name}-quickgelu"
    if not config.get("quick_gelu") and open_clip.get_model_config(other):
        print(
            f"note: {name} has GELU; weights made with QuickGELU, as OpenAI's, MetaCLIP's and DFN's, want "
            f"clip.model: {other}"
        )


def clip_folder(model: str, pretrained: str) -> Path | None:
    """The folder that `clip.model` names, with or without open_clip's prefix `local-dir:`; else None.

    Raises:
        UserError: there is no such folder, or `clip.pretrained` names weights other than its own.
    """
    folder = Path(model.removeprefix(LOCAL_DIR))
    if not folder.is_dir():
        if model.startswith(LOCAL_DIR):
            raise UserError(f"clip.model: there is no folder {folder}; give the path of a CLIP's own folder")
        if pretrained == FOLDER:
            raise UserError(f"clip.pretrained is {FOLDER}, but clip.model is {model}, which is no folder")
        return None
    if pretrained != FOLDER:
        raise UserError(
            f"clip.model is the folder {folder}, which holds its own weights; set clip.pretrained: {FOLDER}"
        )
    return folder


def load_folder(folder: Path, preprocess_as: str | None) -> tuple[nn.Module, Config, Config, Config]:
    """The CLIP of a folder; the same four things as `load_pretrained` returns."""
    found = read_clip_folder(folder)
    wanted = found.preprocessing
    if wanted is None:
        wanted = form_of_file(folder.name, preprocess_as)
    else:
        refuse_preprocess_as(preprocess_as, f"the folder {folder} says")
    config = text_files_beside(found.config, folder)
    model = build_model(config, folder.name)
    try:
        put_weights(model, found.weights)
    except CHECKPOINT_ERRORS as error:
        raise UserError(
            f"clip.model: the weights {found.file} do not fit the config beside them: {first_line(error)}; "
            "get the whole repository again"
        ) from None
    origin = {"pretrained": found.file.name, "file_sha256": sha256_file(found.file)}
    return model, config, wanted, origin


def _download(name: str, config: Config, pretrained: str, tag: Config) -> Path:
    try:
        # If a repository is named, open_clip ignores the address, too.
        return fetch_weights(tag["hf_hub"]) if tag.get("hf_hub") else Path(open_clip.download_pretrained(tag))
    except (OSError, RuntimeError) as error:
        if error_number(error) in ON_DISK:
            raise  # The fault is this machine's and is reported as it is.
        raise UserError(
            f"clip.pretrained: weights {pretrained!r} of {name} cannot be downloaded: {first_line(error)}; "
            "connect to the internet once (an interrupted download resumes), or "
            f"{without_connection(tag, config)}"
        ) from None


def without_connection(tag: Config, config: Config) -> str:
    """How to get the weights of a tag on another machine, with the config, which states the activation, and
    what transformers reads of the text side.
    """
    hub = tag.get("hf_hub", "").rstrip("/")
    if not hub:
        return f"get them elsewhere from {tag.get('url', 'their publisher')} and give the file's path"
    files = [f"the weights and open_clip_config.json elsewhere from huggingface.co/{hub}"]
    files += [f"{FILES[key]} from huggingface.co/{place}" for key, place in text_places(config).items()]
    return (
        f"get {', '.join(files)}, set clip.model to the folder that they are in and clip.pretrained: {FOLDER}"
    )
