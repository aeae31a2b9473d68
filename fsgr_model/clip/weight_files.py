"""Weights of a CLIP from a file of any usual form, under open_clip's names; no form can run code."""

import pickle
import zipfile
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from fsgr_model.clip.loading import first_line
from fsgr_model.clip.open_clip_api import open_clip
from fsgr_model.runtime.errors import UserError, naming_file, raise_if_refused
from fsgr_model.runtime.tensor_file import why_unreadable

Weights = dict[str, torch.Tensor]
# The exceptions of PyTorch and open_clip for files that are not a checkpoint of this model.
CHECKPOINT_ERRORS = (
    RuntimeError,
    SafetensorError,
    pickle.UnpicklingError,
    EOFError,
    AttributeError,
    LookupError,
    TypeError,
)
POSITION_IDS = ("text.transformer.embeddings.position_ids",)
# Numbers that OpenAI's archives contain next to the weights.
OPENAI_EXTRAS = ("input_resolution", "context_length", "vocab_size")


def is_torchscript(path: Path) -> bool:
    """Whether a file is a TorchScript archive, the form in which OpenAI published CLIP."""
    if path.suffix == ".safetensors" or not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any(name.split("/")[1:2] == ["constants.pkl"] for name in archive.namelist())


def load_weights(model: nn.Module, path: Path, name: str) -> None:
    """Load a TorchScript archive, a `.safetensors` file or a checkpoint of PyTorch or open_clip into `model`.

    Every weight must be there in the size that the architecture has: position embeddings are never resized,
    since that would hide weights made for another image size.

    Raises:
        UserError: the file is broken, or is of another model.
    """
    try:
        put_weights(model, read_weights(path))
    except CHECKPOINT_ERRORS as error:
        raise_if_refused(error, path)
        raise UserError(
            f"clip.pretrained: {path} cannot be loaded into {name}: {first_line(error)}; "
            "check that the file is whole and that clip.model names its architecture"
        ) from None


def read_weights(path: Path) -> Weights:
    """The tensors of a file by name; a pickle loads with `weights_only`.

    Raises:
        TypeError: the file contains something other than weights by name.
        Others of `CHECKPOINT_ERRORS`: it is broken.
    """
    if path.suffix == ".safetensors":
        with naming_file(path):
            try:
                return load_file(path)
            except FileNotFoundError as error:
                raise why_unreadable(error, path) from None
    if is_torchscript(path):
        weights = torch.jit.load(path, map_location="cpu").state_dict()
        return {key: value for key, value in weights.items() if key not in OPENAI_EXTRAS}
    found = torch.load(path, map_location="cpu", weights_only=True)
    weights = found.get("state_dict", found) if isinstance(found, dict) else found
    if not isinstance(weights, dict):
        raise TypeError(f"it contains a {type(weights).__name__}, not weights by name")
    # Distributed training puts this before every name.
    return {name.removeprefix("module."): value for name, value in weights.items()}


def put_weights(model: nn.Module, weights: Weights) -> None:
    """Copy `weights` into `model`, in its own precision.

    Raises:
        RuntimeError: a weight is missing, unknown, or of another size.
    """
    # MobileCLIP's own names.
    weights = open_clip.convert.convert_state_dict(model, weights)
    if "positional_embedding" in weights and not hasattr(model, "positional_embedding"):
        weights = open_clip.model.convert_to_custom_text_state_dict(weights)
    own = model.state_dict()
    # Older versions of transformers saved these indices.
    kept = {key: value for key, value in weights.items() if key not in POSITION_IDS or key in own}
    # Some training runs saved scale and bias as one number in a list.
    single = {key: kept[key].reshape(own[key].shape) for key in ("logit_scale", "logit_bias") if key in own}
    model.load_state_dict({**kept, **single}, strict=True)
