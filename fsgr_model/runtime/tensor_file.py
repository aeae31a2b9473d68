"""safetensors files with a checksum of their contents, which detects even one flipped bit."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from fsgr_model.runtime.artifacts import whole_file
from fsgr_model.runtime.errors import UserError, raise_if_refused

CHECKSUM = "sha256"
DESCRIPTION = "description"
# What safetensors raises for files of another format; OSError for folders and the like.
DAMAGE = (SafetensorError, OSError, ValueError, KeyError, MemoryError, OverflowError)


def save_tensors(path: Path, tensors: Mapping[str, Tensor], facts: Mapping[str, str]) -> None:
    """Write tensors and `facts` about them, whole or absent."""
    kept = {name: tensor.detach().contiguous().cpu() for name, tensor in tensors.items()}
    with whole_file(path) as partial:
        # There is one entry, since safetensors writes several in random order.
        described = json.dumps({"facts": dict(facts), CHECKSUM: checksum(kept, facts)}, sort_keys=True)
        save_file(kept, partial, metadata={DESCRIPTION: described})


def load_tensors(path: Path, remedy: str) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors of a file, on the CPU, and the facts about them. `remedy` ends an error message.

    Raises:
        UserError: the file is missing, truncated, changed by even one bit, or not written by `save_tensors`.
    """
    try:
        # safetensors calls every file missing that it cannot open.
        path.open("rb").close()
        with safe_open(path, framework="pt") as opened:
            description = (opened.metadata() or {}).get(DESCRIPTION)
            tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
    except FileNotFoundError:
        raise UserError(f"{path} does not exist; {remedy}") from None
    except DAMAGE as error:
        raise_if_refused(error, path)
        raise UserError(f"{path} is damaged ({error}); {remedy}") from None
    if description is None:
        raise UserError(
            f"{path} holds no checksum: it is not a file of this project, or is of an older version; {remedy}"
        )
    facts, expected = _read_description(description, path, remedy)
    found = checksum(tensors, facts)
    if found != expected:
        raise UserError(
            f"{path} is damaged: the SHA-256 of its contents is {found[:12]}…, it was {expected[:12]}… when "
            f"it was written; {remedy}"
        )
    return tensors, facts


def _read_description(text: str, path: Path, remedy: str) -> tuple[dict[str, str], str]:
    try:
        description = json.loads(text)
        return dict(description["facts"]), str(description[CHECKSUM])
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} is damaged (its description: {error}); {remedy}") from None


def checksum(tensors: Mapping[str, Tensor], facts: Mapping[str, str]) -> str:
    """Hex SHA-256 of names, types, shapes and values, and of the facts."""
    digest = hashlib.sha256(json.dumps(dict(facts), sort_keys=True).encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(json.dumps([name, str(tensor.dtype), list(tensor.shape)]).encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
