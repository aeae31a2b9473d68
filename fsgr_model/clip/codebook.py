"""The concepts that patches are named with, and their text embeddings.

Shapes: K concepts, E joint width.
"""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from fsgr_model.artifacts import fingerprint, load_json, read_text, save_json, whole_folder
from fsgr_model.clip.loading import load_clip
from fsgr_model.clip.text_embeddings import embed_texts, templates
from fsgr_model.datasets.normal_form import read_instances
from fsgr_model.device import pick_device
from fsgr_model.errors import UserError
from fsgr_model.lines import lines_of
from fsgr_model.params import CodebookParams
from fsgr_model.tensor_file import load_tensors, save_tensors

EMBEDDINGS = "codebook.safetensors"
NAMES = "codebook.json"
# Label maps are stored as uint16.
MOST_CONCEPTS = 65_535


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


def make_codebook(params: CodebookParams, dataset: Path, clip_folder: Path, folder: Path) -> None:
    """Embed the concepts that `params.concepts` names, and save them."""
    names = (
        dataset_concepts(dataset) if params.concepts == "dataset" else read_concepts(Path(params.concepts))
    )
    clip = load_clip(clip_folder, pick_device())
    identity = {
        "concepts": fingerprint(names),
        "templates": params.templates,
        "weights": clip.identity["weights"],
    }
    Codebook(names, embed_texts(clip, names, templates(params.templates)), identity).save(folder)
    print(f"codebook: {len(names)} concepts, prompts '{params.templates}'")


def dataset_concepts(dataset: Path) -> list[str]:
    """Names of the dataset's categories, by category id.

    Raises:
        UserError: it has none.
    """
    categories = sorted(read_instances(dataset)["categories"], key=lambda category: category["id"])
    if not categories:
        raise UserError(
            "codebook.concepts is dataset, but the dataset has no categories; name a text file with one "
            "concept a line, such as data/concepts/everyday.txt"
        )
    return _checked([category["name"] for category in categories], "the dataset's categories")


def read_concepts(path: Path) -> list[str]:
    """Concepts of a text file, one a line, spaces at the ends removed.

    Raises:
        UserError: no such file, an empty line, a concept twice, or other ends of lines than LF and CRLF.
    """
    if not path.exists():
        raise UserError(f"codebook.concepts: {path} does not exist; give a text file, or dataset")
    try:
        lines = lines_of(read_text(path))
    except UserError as error:
        raise UserError(f"codebook.concepts: {error}") from None
    _refuse_other_ends(lines, path)
    return _checked([line.strip() for line in lines], str(path))


def _refuse_other_ends(lines: list[str], path: Path) -> None:
    """What some programs take for the end of a line would else be a part of a concept."""
    for number, line in enumerate(lines, start=1):
        first, *others = f"{line}.".splitlines()
        if others:
            raise UserError(
                f"codebook.concepts: {path}: line {number} holds {line[len(first)]!r}, which ends a line for "
                "some programs alone; save the file with plain line ends (LF or CRLF), one concept a line"
            )


def _checked(names: list[str], place: str) -> list[str]:
    empty = [number for number, name in enumerate(names, start=1) if not name]
    if empty:
        raise UserError(f"codebook.concepts: {place}: number {empty[0]} is empty; one concept a line")
    double = [name for name, count in Counter(names).items() if count > 1]
    if double:
        raise UserError(f"codebook.concepts: {place}: {double[:10]} occur more than once; remove the copies")
    if not 1 <= len(names) <= MOST_CONCEPTS:
        raise UserError(
            f"codebook.concepts: {place}: {len(names)} concepts; 1 to {MOST_CONCEPTS} are possible"
        )
    return names
