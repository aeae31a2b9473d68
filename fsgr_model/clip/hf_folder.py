"""A CLIP in a folder of its own, as Hugging Face repositories contain it: config, preprocessing and weights.

Two forms: open_clip's (`open_clip_config.json`), and that of the library transformers (`config.json` of model
type clip with `preprocessor_config.json`), whose weights have other names.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fsgr_model.clip.hf_weights import open_clip_names, sizes
from fsgr_model.clip.loading import first_line
from fsgr_model.clip.weight_files import CHECKPOINT_ERRORS, Weights, read_weights
from fsgr_model.runtime.artifacts import load_json
from fsgr_model.runtime.errors import UserError, raise_if_refused

Config = dict[str, Any]
WEIGHT_FILES = (
    "open_clip_model.safetensors",
    "open_clip_pytorch_model.safetensors",
    "open_clip_pytorch_model.bin",
    "model.safetensors",
    "pytorch_model.bin",
)
# The numbers of Pillow's filters.
INTERPOLATIONS = {2: "bilinear", 3: "bicubic"}
# Activation in transformers -> whether it is QuickGELU.
ACTIVATIONS = {"quick_gelu": True, "gelu": False}
EPSILON = 1e-5
# The defaults of transformers; a config may leave out values that equal them.
DEFAULT_TOWERS = {
    "vision_config": {"num_attention_heads": 12, "hidden_act": "quick_gelu", "layer_norm_eps": EPSILON},
    "text_config": {"num_attention_heads": 8, "hidden_act": "quick_gelu", "layer_norm_eps": EPSILON},
}


@dataclass(frozen=True)
class ClipFolder:
    """The contents of a folder: an open_clip config, preprocessing, and weights under open_clip's names.

    `preprocessing` is None where the folder does not say it.
    """

    config: Config
    preprocessing: Config | None
    weights: Weights
    file: Path


def read_clip_folder(folder: Path) -> ClipFolder:
    """Read a folder of either form.

    Raises:
        UserError: a file is missing or broken, or the model is no CLIP of this kind.
    """
    file = _weight_file(folder)
    try:
        weights = read_weights(file)
    except CHECKPOINT_ERRORS as error:
        raise_if_refused(error, file)
        raise UserError(f"clip.model: {file} cannot be read: {first_line(error)}; get it again") from None
    path = folder / "open_clip_config.json"
    if path.is_file():
        described = load_json(path)
        if not isinstance(described, dict) or "model_cfg" not in described:
            raise UserError(f"clip.model: {path} has no model_cfg; get it again")
        wanted = described.get("preprocess_cfg") or {}
        # open_clip would take OpenAI's for what is not there.
        says_it = {"mean", "std"} <= wanted.keys()
        return ClipFolder(described["model_cfg"], wanted if says_it else None, weights, file)
    wanted = hf_preprocessing(folder / "preprocessor_config.json")
    try:
        return ClipFolder(hf_config(folder / "config.json", weights), wanted, open_clip_names(weights), file)
    except KeyError as error:
        raise UserError(f"clip.model: {file} has no {error}; it is of another model, or not whole") from None


def _weight_file(folder: Path) -> Path:
    found = [folder / name for name in WEIGHT_FILES if (folder / name).is_file()]
    if not found:
        raise UserError(
            f"clip.model: the folder {folder} has no weights (one of {', '.join(WEIGHT_FILES)}); "
            "get the whole repository"
        )
    return found[0]


def hf_config(path: Path, weights: Weights) -> Config:
    """open_clip's config for a model of transformers: sizes from the weights, the rest from `path`.

    Raises:
        UserError: another model type, activation or layer norm than CLIP's.
        KeyError: the weights lack a part of CLIP.
    """
    described = load_json(path)
    kind = described.get("model_type") if isinstance(described, dict) else None
    if kind != "clip":
        raise UserError(f"clip.model: {path} is of model_type {kind!r}; only clip can be read")
    # In older configs the valid values are under *_config_dict.
    vision, text = (
        {**DEFAULT_TOWERS[name], **described.get(name, {}), **(described.get(f"{name}_dict") or {})}
        for name in ("vision_config", "text_config")
    )
    for key in ("hidden_act", "layer_norm_eps"):
        if vision[key] != text[key]:
            raise UserError(f"clip.model: {path}: {key} is {vision[key]} for images, {text[key]} for texts")
    if vision["hidden_act"] not in ACTIVATIONS or vision["layer_norm_eps"] != EPSILON:
        raise UserError(
            f"clip.model: {path}: hidden_act {vision['hidden_act']} and layer_norm_eps "
            f"{vision['layer_norm_eps']}; open_clip has {', '.join(ACTIVATIONS)} and {EPSILON}"
        )
    config = sizes(weights)
    config["quick_gelu"] = ACTIVATIONS[vision["hidden_act"]]
    config["vision_cfg"]["head_width"] = config["vision_cfg"]["width"] // vision["num_attention_heads"]
    config["text_cfg"]["heads"] = text["num_attention_heads"]
    return config


def hf_preprocessing(path: Path) -> Config:
    """Mean, deviation and interpolation of open_clip's preprocessing, from `preprocessor_config.json`.

    Raises:
        UserError: the file is missing, or lacks one of them.
    """
    described = load_json(path)
    try:
        return {
            "mean": tuple(described["image_mean"]),
            "std": tuple(described["image_std"]),
            "interpolation": INTERPOLATIONS[described.get("resample", 3)],
        }
    except (KeyError, TypeError) as error:
        raise UserError(
            f"clip.model: {path} needs image_mean, image_std and a known resample ({error}); get it again"
        ) from None
