"""Builds the network from the artifacts that define its sizes, and keeps its weights.

No size is configured twice: vocabulary, concepts, grid and widths come from the files, and are compared here
before the first step. The weights carry a record of everything they were made with, and are refused if any
of it differs.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError

from fsgr_model.clip.codebook import Codebook, load_codebook
from fsgr_model.clip.loading import Clip, load_clip
from fsgr_model.clip.token_cache import CacheDtype, cache_dtype_of, trunk_identity
from fsgr_model.clip.towers import make_tail
from fsgr_model.config.model_params import ModelParams
from fsgr_model.network.captioner import Captioner
from fsgr_model.runtime.errors import UserError
from fsgr_model.runtime.tensor_file import checksum, load_tensors, save_tensors
from fsgr_model.runtime.unset_weights import UnsetWeights
from fsgr_model.text.vocabulary import Vocabulary, load_word_embeddings

FORMAT_VERSION = 1

# The file of a network in its folder.
WEIGHTS = "model.safetensors"


@dataclass(frozen=True)
class Assembly:
    """A network, its word list, and what it was made with; `trunk` there is what its caches must be."""

    captioner: Captioner
    vocabulary: Vocabulary
    made_with: dict[str, Any]

    @property
    def device(self) -> torch.device:
        return next(self.captioner.parameters()).device


@dataclass(frozen=True)
class Parts:
    """What a network is built of, each artifact read once.

    `cut`: the block of CLIP at which its features were cached; `cache_dtype`: how they were rounded.
    `codebook` is None where nothing asks for it.
    `word_VE`: CLIP's embedding of every word, unit float32 rows.
    """

    clip: Clip
    cut: int
    cache_dtype: CacheDtype
    codebook: Codebook | None
    vocabulary: Vocabulary
    word_VE: torch.Tensor

    @property
    def trunk(self) -> dict[str, Any]:
        """What the caches of CLIP's features must be."""
        return trunk_identity(self.clip.identity, self.cut, self.cache_dtype)


def read_parts(artifacts: Path, clip: Clip, trunk: Mapping[str, Any], codebook: bool = True) -> Parts:
    """Read `artifacts`/{vocab,codebook}, the latter if asked for, for a CLIP that was read already.

    `trunk`: the identity of its features, which says where it is cut and how they are rounded.

    Raises:
        UserError: an artifact is missing or damaged.
    """
    concepts = load_codebook(artifacts / "codebook") if codebook else None
    vocabulary = Vocabulary.load(artifacts / "vocab" / "words.json")
    word_VE = load_word_embeddings(artifacts / "vocab" / "embeddings.safetensors", vocabulary)
    return Parts(clip, int(trunk["cut"]), cache_dtype_of(trunk), concepts, vocabulary, word_VE)


def build_captioner(parts: Parts, params: ModelParams, seed: int) -> Assembly:
    """The network with fresh weights that `seed` draws, on the device of CLIP.

    Raises:
        UserError: two of the parts disagree; the message gives both numbers.
    """
    codebook = parts.codebook if params.semantics else None
    codebook_KE = None if codebook is None else codebook.embeddings_KE
    tail = make_tail(parts.clip.model, parts.cut, params.align)
    joint_width = tail.joint_width
    for name, vectors in [("codebook", codebook_KE), ("word embeddings", parts.word_VE)]:
        if vectors is not None and (width := vectors.shape[1]) != joint_width:
            raise UserError(f"the {name} have width {width}, their CLIP has {joint_width}; run dvc repro")
    if tail.grid_size[0] != tail.grid_size[1]:
        raise UserError(f"the encoder needs a square grid of patches; this CLIP has {tail.grid_size}")
    # The caller's random state is left unchanged.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        captioner = Captioner(tail, tail.grid_size[0], codebook_KE, parts.word_VE, params=params)
    made_with = {
        "format_version": FORMAT_VERSION,
        "model": params.model_dump(),
        "trunk": parts.trunk,
        "codebook": None if codebook is None else codebook.identity,
        "words": parts.vocabulary.fingerprint,
        "num_words": len(parts.vocabulary),
    }
    return Assembly(captioner.to(tail.device), parts.vocabulary, made_with)


def parameter_counts(captioner: Captioner) -> dict[str, int]:
    """Trainable parameters of each part, by the first two components of its name: `decoder.layers`, …"""
    counts: dict[str, int] = {}
    for name, weight in captioner.trained_weights().items():
        part = ".".join(name.split(".")[:2])
        counts[part] = counts.get(part, 0) + weight.numel()
    return counts


@dataclass(frozen=True)
class Restored:
    """A trained network in evaluation mode, and the parts that it is built of."""

    parts: Parts
    assembly: Assembly


def restore(artifacts: Path, weights: Path, device: torch.device) -> Restored:
    """A trained network from `artifacts`/{clip,codebook,vocab} and the folder of its weights.

    The weights' own record says how it was built, so no parameter file and no cache is needed.

    Raises:
        UserError: a file is missing, damaged, or does not belong to the others.
    """
    path = weights / WEIGHTS
    made_with, tensors = read_weights(path)
    clip = load_clip(artifacts / "clip", device)
    try:
        params = ModelParams.model_validate(made_with["model"])
        trunk = {**made_with["trunk"], "cut": int(made_with["trunk"]["cut"])}
    except (KeyError, ValidationError):
        raise UserError(
            f"{path} does not say how its network was built, or says so in the form of another version of "
            "this project; make it again with dvc repro"
        ) from None
    parts = read_parts(artifacts, clip, trunk)
    with UnsetWeights():
        assembly = build_captioner(parts, params, seed=0)
    check_made_with(path, made_with, assembly)
    put_weights(path, tensors, assembly)
    assembly.captioner.eval()
    return Restored(parts, assembly)


def describe(captioner: Captioner) -> str:
    """A table of the trainable parameters per part and in total, and of the frozen ones."""
    counts = parameter_counts(captioner)
    frozen = sum(weight.numel() for weight in captioner.parameters() if not weight.requires_grad)
    rows = [*counts.items(), ("in all", sum(counts.values())), ("frozen, of CLIP", frozen)]
    return "\n".join(["trainable parameters", *(f"  {part:<24}{count:>12,}" for part, count in rows)])


def save_weights(folder: Path, assembly: Assembly) -> None:
    """Write `model.safetensors`: the tensors of a checkpoint and the record of what it was made with."""
    facts = {"made_with": json.dumps(assembly.made_with)}
    save_tensors(folder / WEIGHTS, assembly.captioner.checkpoint_tensors(), facts)


def load_weights(folder: Path, assembly: Assembly) -> None:
    """Read weights into the network.

    Raises:
        UserError: the file is missing, damaged, or made with another CLIP, vocabulary, codebook or shape.
    """
    path = folder / WEIGHTS
    made_with, weights = read_weights(path)
    check_made_with(path, made_with, assembly)
    put_weights(path, weights, assembly)


def weights_sha256(assembly: Assembly) -> str:
    """The SHA-256 of the names and values of the network's weights."""
    tensors = assembly.captioner.checkpoint_tensors()
    return checksum({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, {})


def check_made_with(path: Path, made_with: dict[str, Any], assembly: Assembly) -> None:
    """Refuse weights that were made with another CLIP, vocabulary, codebook or shape.

    Raises:
        UserError: something differs; the message gives both values.
    """
    for key, expected in assembly.made_with.items():
        if made_with.get(key) != expected:
            raise UserError(
                f"{path} was made with another {key}: the file says {made_with.get(key)!r}, "
                f"this run needs {expected!r}; run dvc repro"
            )


def put_weights(path: Path, weights: dict[str, torch.Tensor], assembly: Assembly) -> None:
    """Give the network the weights that were read from `path`.

    Raises:
        UserError: their names are not those of the network.
    """
    expected_names = assembly.captioner.checkpoint_tensors().keys()
    if expected_names != weights.keys():
        odd = sorted(expected_names ^ weights.keys())
        raise UserError(f"{path} and the network differ in {odd[:5]}; run dvc repro")
    assembly.captioner.load_state_dict(weights, strict=False)


def read_weights(path: Path) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    """What weights were made with, and the weights themselves, on the CPU.

    Raises:
        UserError: the file is missing, damaged, not a network of this project, or of a newer version.
    """
    weights, facts = load_tensors(path, "run dvc repro, or get the file again")
    made_with = json.loads(facts.get("made_with", "{}"))
    version = made_with.get("format_version")
    if version is None:
        raise UserError(f"{path} contains no captioner of this project; give the folder of one")
    if version > FORMAT_VERSION:
        raise UserError(
            f"{path} was written by a newer version of this project: format {version}, this one reads "
            f"{FORMAT_VERSION}; update the project, or run dvc repro"
        )
    return made_with, weights
