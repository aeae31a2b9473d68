"""The CLIP that every other stage uses: `data/clip/` = `clip.safetensors` + `clip.json`.

`clip.json` holds the open_clip model config, the preprocessing, where the weights come from and their
SHA-256, so that the folder is enough to build the model again, offline. Where the text tower or the tokenizer
is one of transformers, its files lie in `data/clip/text/`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from safetensors.torch import save_file
from torch import nn

from fsgr_model.clip.model_building import build_model, build_preprocess, build_tokenizer
from fsgr_model.clip.text_files import check_text_files, keep_text_files, kept_text_files, text_hashes
from fsgr_model.kernels.products import speed_up_products
from fsgr_model.runtime.artifacts import fingerprint, load_json, save_json, sha256_file
from fsgr_model.runtime.errors import UserError, naming_file
from fsgr_model.runtime.tensor_file import read_and_hash
from fsgr_model.runtime.unset_weights import UnsetWeights
from fsgr_model.text.lines import lines_of

WEIGHTS, DESCRIPTION = "clip.safetensors", "clip.json"


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


def save_clip(
    folder: Path,
    model: nn.Module,
    name: str,
    config: dict[str, Any],
    *,
    preprocessing: dict[str, Any],
    origin: dict[str, Any],
) -> None:
    """Write `data/clip/`. Weights are stored as float32."""
    folder.mkdir(parents=True, exist_ok=True)
    weights = {key: value.float().contiguous() for key, value in model.state_dict().items()}
    with naming_file(folder / WEIGHTS):
        save_file(weights, folder / WEIGHTS)
    description = {
        "model": name,
        "config": keep_text_files(config, model, folder),
        "preprocessing": preprocessing,
        "origin": origin,
        "weights_sha256": sha256_file(folder / WEIGHTS),
    }
    if text := text_hashes(folder):
        description["text_sha256"] = text
    save_json(folder / DESCRIPTION, description | {"fingerprint": fingerprint(description)})


def load_description(folder: Path) -> dict[str, Any]:
    """The contents of `clip.json`.

    Raises:
        UserError: it is missing, or is not as `save_clip` wrote it.
    """
    path = folder / DESCRIPTION
    description = load_json(path)
    expected = description.pop("fingerprint", None) if isinstance(description, dict) else None
    if expected != fingerprint(description):
        raise UserError(
            f"{path} is not as it was written: its contents do not have the fingerprint {expected}; "
            "run dvc repro -f clip"
        )
    return description


def clip_identity(description: dict[str, Any]) -> dict[str, Any]:
    """What a feature of this CLIP depends on, from the contents of `clip.json`."""
    identity = {
        "model": description["model"],
        "config": fingerprint(description["config"]),
        "weights": description["weights_sha256"],
        "preprocessing": description["preprocessing"],
    }
    if "text_sha256" in description:
        identity["text"] = fingerprint(description["text_sha256"])
    return identity


def load_clip(folder: Path, device: torch.device) -> Clip:
    """Read `data/clip/`.

    Raises:
        UserError: a file is missing, or the weights are not those that the description names.
    """
    description = load_description(folder)
    weights = _read_weights(folder / WEIGHTS, description["weights_sha256"])
    check_text_files(folder, description.get("text_sha256", {}))
    config = kept_text_files(description["config"], folder)
    with UnsetWeights():
        model = build_model(config, description["model"])
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
        config,
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
