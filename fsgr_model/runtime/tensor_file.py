"""safetensors files with a checksum of their contents, which detects even one flipped bit."""

import hashlib
import json
import os
from collections.abc import Mapping
from math import prod
from pathlib import Path
from typing import Literal

import torch
from pydantic import NonNegativeInt, TypeAdapter
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor
from typing_extensions import TypedDict

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
        with safe_open(path, framework="pt") as opened:
            description = (opened.metadata() or {}).get(DESCRIPTION)
            tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
    except DAMAGE as raised:
        error = why_unreadable(raised, path)
        if isinstance(error, FileNotFoundError):
            raise UserError(f"{path} does not exist; {remedy}") from None
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


def why_unreadable(error: Exception, path: Path) -> Exception:
    """The system's own error where a file cannot be opened, since safetensors calls all of these missing."""
    if isinstance(error, FileNotFoundError):
        try:
            path.open("rb").close()
        except OSError as found:
            return found
    return error


class _Entry(TypedDict):
    """What the header says of a tensor; `data_offsets`: where its bytes begin and end, after the header."""

    dtype: Literal["F32"]
    shape: list[NonNegativeInt]
    data_offsets: tuple[NonNegativeInt, NonNegativeInt]


def read_and_hash(path: Path) -> tuple[dict[str, Tensor], str]:
    """The tensors of a safetensors file that holds float32 alone, and the hex SHA-256 of the whole file.

    Every byte is read once, into the memory of its tensor: what was hashed is what is used, and memory holds
    the weights once. The library would read the file a second time (`load_file`) or hold it twice (`load`).
    The format: huggingface.co/docs/safetensors, section Format.

    Raises:
        ValueError: the file is cut short, or is not of this form.
    """
    with path.open("rb") as opened:
        size = os.fstat(opened.fileno()).st_size
        length = opened.read(8)
        header = opened.read(min(int.from_bytes(length, "little"), size))
        digest = hashlib.sha256(length + header)
        entries = TypeAdapter(dict[str, _Entry]).validate_json(header)
        tensors, end = {}, 0
        for name, entry in sorted(entries.items(), key=lambda item: item[1]["data_offsets"]):
            count = 4 * prod(entry["shape"])
            begin, end = end, end + count
            if entry["data_offsets"] != (begin, end) or end > size:
                raise ValueError(f"{name} does not lie where the header says")
            tensors[name] = torch.empty(entry["shape"], dtype=torch.float32)
            values = tensors[name].view(-1).view(torch.uint8).numpy().data
            if opened.readinto(values) != count:
                raise ValueError(f"{name} is cut short")
            digest.update(values)
        digest.update(opened.read())
    return tensors, digest.hexdigest()


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
