"""The concepts that patches are named with, and their text embeddings.

Shapes: K concepts, E joint width.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from fsgr_model.runtime.artifacts import fingerprint, load_json, save_json, whole_folder
from fsgr_model.runtime.errors import UserError
from fsgr_model.runtime.tensor_file import load_tensors, save_tensors

EMBEDDINGS = "codebook.safetensors"
NAMES = "codebook.json"


@dataclass(frozen=True)
class Codebook:
    """`embeddings_KE`: unit float32 rows, one for each of `names`; `identity`: concepts, prompts and CLIP."""

    names: list[str]
    embeddings_KE: torch.Tensor
    identity: dict[str, Any]

    def save(self, folder: Path) -> None:
        """Write `codebook.safetensors` and `codebook.json`."""
        described = {"names": self.names, "identity": self.identity}
        facts = {"described": fingerprint(described)}
        with whole_folder(folder) as partial:
            save_tensors(partial / EMBEDDINGS, {"embeddings": self.embeddings_KE}, facts)
            save_json(partial / NAMES, described)


def load_codebook(folder: Path) -> Codebook:
    """Read `data/codebook/`.

    Raises:
        UserError: a file is missing, or names and embeddings disagree.
    """
    described = load_json(folder / NAMES)
    tensors, facts = load_tensors(folder / EMBEDDINGS, "run dvc repro -f codebook")
    embeddings_KE, found = tensors["embeddings"], fingerprint(described)
    if found != facts["described"]:
        raise UserError(
            f"{folder / EMBEDDINGS} has {len(embeddings_KE)} rows for other concepts than {folder / NAMES} "
            f"names: fingerprint {facts['described']}, there {found}; run dvc repro -f codebook"
        )
    return Codebook(described["names"], embeddings_KE, described["identity"])
