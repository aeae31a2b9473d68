"""Puts the network together from the artifacts that define its sizes, and keeps its weights.

No size is typed twice: vocabulary, concepts, grid and widths come from the files, and are compared here,
before the first step. The weights carry a note of everything they were made with, and are refused
where anything of it differs.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError

from fsgr_model.clip.codebook import load_codebook
from fsgr_model.clip.loading import Clip, load_clip
from fsgr_model.clip.split import trunk_identity
from fsgr_model.clip.towers import make_tail
from fsgr_model.config.params import ModelParams
from fsgr_model.datasets.normal_form import Split
from fsgr_model.kernels.onednn_layers import train_with_onednn
from fsgr_model.network.captioner import Captioner
from fsgr_model.runtime.errors import UserError
from fsgr_model.runtime.row_store import RowStore
from fsgr_model.runtime.tensor_file import load_tensors, save_tensors
from fsgr_model.runtime.unset_weights import UnsetWeights
from fsgr_model.text.vocabulary import Vocabulary, load_word_embeddings

FORMAT_VERSION = 1


@dataclass(frozen=True)
class Assembly:
    """A network, its word list, and what it was made with; `trunk` there is what its caches must be."""

    captioner: Captioner
    vocabulary: Vocabulary
    made_with: dict[str, Any]

    @property
    def device(self) -> torch.device:
        return next(self.captioner.parameters()).device


def assemble(data: Path, split: Split, params: ModelParams, seed: int, device: torch.device) -> Assembly:
    """Build the network with fresh weights from `data`/{clip,codebook,vocab}, for the cache of `split`.

    The cache says at which block CLIP was cut.

    Raises:
        UserError: an artifact is missing, or two of them disagree; with both numbers.
    """
    clip = load_clip(data / "clip", device)
    trunk = RowStore(data / "features" / f"{split}.h5", clip.identity).identity
    return put_together(data, clip, trunk["cut"], params, seed, device)


def put_together(
    artifacts: Path, clip: Clip, cut: int, params: ModelParams, seed: int, device: torch.device
) -> Assembly:
    """The network with fresh weights from `artifacts`/{codebook,vocab}, around a CLIP cut at block `cut`.

    Raises:
        UserError: an artifact is missing, or two of them disagree; with both numbers.
    """
    codebook = load_codebook(artifacts / "codebook") if params.semantics else None
    vocabulary = Vocabulary.load(artifacts / "vocab" / "words.json")
    word_VE = load_word_embeddings(artifacts / "vocab" / "embeddings.safetensors", vocabulary)
    tail = make_tail(clip.model, cut, params.align)
    joint_width = tail.proj.shape[1]
    codebook_KE = None if codebook is None else codebook.embeddings_KE
    for name, vectors in [("codebook", codebook_KE), ("word embeddings", word_VE)]:
        if vectors is not None and (width := vectors.shape[1]) != joint_width:
            raise UserError(
                f"the {name} in {artifacts} have width {width}, its CLIP has {joint_width}; run dvc repro"
            )
    if tail.grid_size[0] != tail.grid_size[1]:
        raise UserError(f"the encoder needs a square grid of patches; this CLIP has {tail.grid_size}")
    torch.manual_seed(seed)
    captioner = Captioner(tail, tail.grid_size[0], codebook_KE, word_VE, params).to(device)
    train_with_onednn(captioner)
    made_with = {
        "format_version": FORMAT_VERSION,
        "model": params.model_dump(),
        "trunk": trunk_identity(clip.identity, cut),
        "codebook": None if codebook is None else codebook.identity,
        "words": vocabulary.fingerprint,
        "num_words": len(vocabulary),
    }
    return Assembly(captioner, vocabulary, made_with)


def parameter_counts(captioner: Captioner) -> dict[str, int]:
    """Trainable parameters of each part, by the first two components of its name: `decoder.layers`, …"""
    counts: dict[str, int] = {}
    for name, weight in captioner.trained_weights().items():
        part = ".".join(name.split(".")[:2])
        counts[part] = counts.get(part, 0) + weight.numel()
    return counts


@dataclass(frozen=True)
class Restored:
    """A trained network in evaluation mode, with the CLIP it belongs to, which is cut at block `cut`."""

    clip: Clip
    cut: int
    assembly: Assembly


def restore(artifacts: Path, weights: Path, device: torch.device) -> Restored:
    """A trained network from `artifacts`/{clip,codebook,vocab} and the folder of its weights.

    The weights' own note says how it was built: no parameter file and no cache is needed.

    Raises:
        UserError: a file is missing, damaged, or does not belong to the others.
    """
    path = weights / "model.safetensors"
    made_with, _ = read_weights(path)
    clip = load_clip(artifacts / "clip", device)
    try:
        params = ModelParams.model_validate(made_with["model"])
        cut = int(made_with["trunk"]["cut"])
    except (KeyError, ValidationError):
        raise UserError(
            f"{path} does not say how its network was built, or says it as another version of this project "
            "did; make it again with dvc repro"
        ) from None
    with UnsetWeights():
        assembly = put_together(artifacts, clip, cut, params, seed=0, device=device)
    load_weights(weights, assembly)
    assembly.captioner.eval()
    return Restored(clip, cut, assembly)


def describe(captioner: Captioner) -> str:
    """A table: trainable parameters of each part and in all, and the frozen ones."""
    counts = parameter_counts(captioner)
    frozen = sum(weight.numel() for weight in captioner.parameters() if not weight.requires_grad)
    rows = [*counts.items(), ("in all", sum(counts.values())), ("frozen, of CLIP", frozen)]
    return "\n".join(["trainable parameters", *(f"  {part:<24}{count:>12,}" for part, count in rows)])


def save_weights(folder: Path, assembly: Assembly) -> None:
    """Write `model.safetensors`: what a checkpoint holds, with what it was made with."""
    facts = {"made_with": json.dumps(assembly.made_with)}
    save_tensors(folder / "model.safetensors", assembly.captioner.checkpoint_tensors(), facts)


def load_weights(folder: Path, assembly: Assembly) -> None:
    """Read weights into the network.

    Raises:
        UserError: no such file, a damaged one, or one made with another CLIP, vocabulary, codebook or shape.
    """
    path = folder / "model.safetensors"
    made_with, weights = read_weights(path)
    for key, expected in assembly.made_with.items():
        if made_with.get(key) != expected:
            raise UserError(
                f"{path} was made with another {key}: the file says {made_with.get(key)!r}, "
                f"this run needs {expected!r}; run dvc repro"
            )
    expected_names = assembly.captioner.checkpoint_tensors().keys()
    if expected_names != weights.keys():
        odd = sorted(expected_names ^ weights.keys())
        raise UserError(f"{path} and the network differ in {odd[:5]}; run dvc repro")
    assembly.captioner.load_state_dict(weights, strict=False)


def read_weights(path: Path) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    """What weights were made with, and the weights themselves, on the CPU.

    Raises:
        UserError: no such file, a damaged one, one of something else, or one of a newer version.
    """
    weights, facts = load_tensors(path, "run dvc repro, or get the file again")
    made_with = json.loads(facts.get("made_with", "{}"))
    version = made_with.get("format_version")
    if version is None:
        raise UserError(f"{path} holds no captioner of this project; name the folder of one")
    if version > FORMAT_VERSION:
        raise UserError(
            f"{path} was written by a newer version of this project: format {version}, this one reads "
            f"{FORMAT_VERSION}; update the project, or run dvc repro"
        )
    return made_with, weights
