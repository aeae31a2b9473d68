"""The CLIP that every other stage uses: `data/clip/` = `clip.safetensors` + `clip.json`.

`clip.json` holds the open_clip model config, the preprocessing, where the weights come from and their
SHA-256, so that the folder is enough to build the model again, offline.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from safetensors.torch import save_file
from torch import nn

from fsgr_model.clip.description import DESCRIPTION, clip_identity, load_description
from fsgr_model.clip.open_clip_api import open_clip
from fsgr_model.kernels.products import speed_up_products
from fsgr_model.runtime.artifacts import fingerprint, save_json, sha256_file
from fsgr_model.runtime.errors import UserError, naming_file
from fsgr_model.runtime.tensor_file import read_and_hash
from fsgr_model.runtime.unset_weights import UnsetWeights
from fsgr_model.text.lines import lines_of

WEIGHTS = "clip.safetensors"
# Settings of an open_clip config that bring in towers or tokenizers from elsewhere.
FOREIGN_SETTINGS = ("timm_model_name", "hf_model_name", "hf_tokenizer_name", "multimodal_cfg")


@dataclass(frozen=True)
class Clip:
    """A frozen CLIP in float32 evaluation mode.

    `config` is open_clip's. `identity` names weights, architecture and preprocessing: what a cache of its
    features depends on.
    """

    model: nn.Module
    preprocess: Callable[[Image.Image], torch.Tensor]
    config: dict[str, Any]
    identity: dict[str, Any]

    @cached_property
    def tokenizer(self) -> Callable[[list[str]], torch.Tensor]:
        """The tokenizer, created on first use: captioning needs none, and saves 0.3 s."""
        return build_tokenizer(self.config)


def build_model(config: dict[str, Any], name: str) -> nn.Module:
    """A randomly initialised open_clip model in float32.

    Raises:
        UserError: the config is not one of open_clip's, or asks for towers that are not open_clip's own.
    """
    settings = {**config, **config.get("vision_cfg", {}), **config.get("text_cfg", {})}
    foreign = [key for key in FOREIGN_SETTINGS if settings.get(key)]
    if foreign:
        raise UserError(
            f"clip.model {name} is not a plain CLIP (its config has {', '.join(foreign)}); choose an "
            "architecture with open_clip's own transformers and tokenizer, such as ViT-B-16"
        )
    arguments = {key: value for key, value in config.items() if key != "custom_text"}
    model_class = open_clip.CustomTextCLIP if config.get("custom_text") else open_clip.CLIP
    try:
        return model_class(**arguments)
    except (TypeError, AssertionError) as error:
        raise UserError(f"clip.model {name} is not a valid open_clip config: {error}") from None


def build_tokenizer(config: dict[str, Any]) -> Callable[[list[str]], torch.Tensor]:
    """open_clip's own BPE tokenizer: texts -> int64 [N, context_length]."""
    text = config["text_cfg"]
    return open_clip.SimpleTokenizer(
        context_length=text.get("context_length", 77), **(text.get("tokenizer_kwargs") or {})
    )


def build_preprocess(preprocessing: dict[str, Any]) -> Callable[[Image.Image], torch.Tensor]:
    """open_clip's transform: RGB picture -> float32 [3, H, W]; no augmentation."""
    return open_clip.transform.image_transform_v2(
        open_clip.transform.PreprocessCfg(**preprocessing), is_train=False
    )


def default_preprocessing(config: dict[str, Any], overrides: dict[str, Any]) -> dict[str, Any]:
    """open_clip's preprocessing for a config: its image size, CLIP's mean and deviation, then `overrides`."""
    values = asdict(open_clip.transform.PreprocessCfg(size=config["vision_cfg"]["image_size"]))
    return open_clip.transform.merge_preprocess_dict(values, overrides)


def save_clip(
    folder: Path,
    model: nn.Module,
    name: str,
    config: dict[str, Any],
    *,
    preprocessing: dict[str, Any],
    origin: dict[str, Any],
) -> None:
    """Write the two files of `data/clip/`. Weights are stored as float32."""
    folder.mkdir(parents=True, exist_ok=True)
    weights = {key: value.float().contiguous() for key, value in model.state_dict().items()}
    with naming_file(folder / WEIGHTS):
        save_file(weights, folder / WEIGHTS)
    description = {
        "model": name,
        "config": config,
        "preprocessing": preprocessing,
        "origin": origin,
        "weights_sha256": sha256_file(folder / WEIGHTS),
    }
    save_json(folder / DESCRIPTION, description | {"fingerprint": fingerprint(description)})


def load_clip(folder: Path, device: torch.device) -> Clip:
    """Read `data/clip/`.

    Raises:
        UserError: a file is missing, or the weights are not those that the description names.
    """
    description = load_description(folder)
    weights = _read_weights(folder / WEIGHTS, description["weights_sha256"])
    with UnsetWeights():
        model = build_model(description["config"], description["model"])
    # A counter of batches is a whole number in the model, and float32 in the file.
    kinds = {name: tensor.dtype for name, tensor in model.state_dict().items()}
    try:
        # The tensors become the model's own, so that memory holds them once.
        model.load_state_dict(
            {name: tensor.to(kinds.get(name, tensor.dtype)) for name, tensor in weights.items()}, assign=True
        )
    except RuntimeError as error:
        raise UserError(
            f"{folder / WEIGHTS} does not fit {description['model']}: {first_line(error)}; "
            "run dvc repro -f clip"
        ) from None
    model.eval().requires_grad_(False).to(device)
    speed_up_products(model)
    return Clip(
        model,
        build_preprocess(description["preprocessing"]),
        description["config"],
        clip_identity(description),
    )


def _read_weights(path: Path, expected: str) -> dict[str, torch.Tensor]:
    """The weights, if their file has this SHA-256.

    Raises:
        UserError: it has not, or does not exist.
    """
    if not path.is_file():
        raise UserError(f"{path} does not exist; run dvc repro clip")
    with naming_file(path):
        try:
            weights, found = read_and_hash(path)
        except ValueError:
            weights, found = {}, sha256_file(path)
    if found != expected:
        raise UserError(
            f"{path} is not the file that {path.with_name(DESCRIPTION)} describes: SHA-256 is {found[:12]}…, "
            f"expected {expected[:12]}…; it was changed or cut short, run dvc repro -f clip"
        )
    return weights


def first_line(error: BaseException) -> str:
    """The first two lines of a library's message, joined into one."""
    return " ".join(line.strip() for line in lines_of(str(error).strip())[:2])
