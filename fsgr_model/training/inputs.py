"""The inputs of the training stages, each artifact read once at the start; all other code takes values."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from fsgr_model.clip.loading import load_clip
from fsgr_model.clip.token_cache import open_of_trunk
from fsgr_model.config.training_params import PhaseParams
from fsgr_model.datasets.normal_form import IMAGES, Split, read_tokens, tokens_of
from fsgr_model.network.assembly import Parts, read_parts
from fsgr_model.runtime.artifacts import checksum_of
from fsgr_model.runtime.errors import UserError
from fsgr_model.runtime.row_store import RowStore
from fsgr_model.text.caption_table import WordTable
from fsgr_model.text.vocabulary import Vocabulary
from fsgr_model.training.batches import CaptionedImages


@dataclass(frozen=True)
class SplitInputs:
    """The images of a split: the tokens of their captions, by ascending image id, and their features."""

    tokens: WordTable
    features: RowStore

    def choose(self, count: int | None, seed: int) -> "SplitInputs":
        """The first `count` of the images in an order that `seed` gives; None: all of them.

        Raises:
            UserError: there are fewer images; the message gives both numbers.
        """
        return (
            self
            if count is None
            else SplitInputs(choose_images(self.tokens, count, seed=seed), self.features)
        )


@dataclass(frozen=True)
class Inputs:
    """All training data. `labels`: the label maps of the training split, where a loss needs them.

    The SHA-256 of the manifest and of the tokens are part of the key by which an interrupted run is found
    again.
    """

    train: SplitInputs
    val: SplitInputs
    labels: RowStore | None
    images_sha256: str
    tokens_sha256: str

    def choose(self, count: int | None, seed: int) -> "Inputs":
        """The same with `count` of the training images, as `SplitInputs.choose` has it."""
        return replace(self, train=self.train.choose(count, seed))


def read_inputs(data: Path, device: torch.device, *, codebook: bool, labels: bool) -> tuple[Parts, Inputs]:
    """What the network is built of and what it is trained on: `data`/{clip,vocab,dataset,features}, and
    `codebook` and `labels` where they are asked for. The features say at which block CLIP was cut
    and how its tokens were rounded.

    Raises:
        UserError: an artifact is missing or damaged, or two of them disagree.
    """
    clip = load_clip(data / "clip", device)
    train = RowStore(data / "features" / "train.h5", clip.identity)
    parts = read_parts(data, clip, train.identity, codebook=codebook or labels)
    val = open_of_trunk(data / "features" / "val.h5", parts.trunk)
    tokens = read_tokens(data / "dataset")
    return parts, Inputs(
        SplitInputs(tokens_of(tokens, "train"), train),
        SplitInputs(tokens_of(tokens, "val"), val),
        label_maps(data, parts) if labels else None,
        checksum_of(data / "dataset" / IMAGES),
        tokens.sha256,
    )


def label_maps(data: Path, parts: Parts, split: Split = "train") -> RowStore:
    """The label maps of a split.

    Raises:
        UserError: they are missing, or were made from other features or another codebook. A label that
            is not the index of a concept is found with the first batch that contains it.
    """
    assert parts.codebook is not None, "label maps need their codebook"
    expected = {**parts.trunk, "codebook": parts.codebook.identity}
    return open_of_trunk(data / "labels" / f"{split}.h5", expected, below=len(parts.codebook.names))


def choose_images(tokens: WordTable, count: int, *, seed: int) -> WordTable:
    """`count` of the images, chosen at random, in their original order.

    Raises:
        UserError: there are fewer images; the message gives both numbers.
    """
    check_count(count, images=len(tokens))
    order = np.random.default_rng(seed).permutation(len(tokens))
    return tokens.rows(np.sort(order[:count]))


def check_count(count: int, *, images: int) -> None:
    """Stop if there are fewer training images than `count`.

    Raises:
        UserError: there are fewer images; the message gives both numbers.
    """
    if count > images:
        raise UserError(
            f"train_images is {count}, but there are only {images} training images; "
            "lower it, or set it to null for all of them"
        )


def captioned_images(
    split: SplitInputs,
    vocabulary: Vocabulary,
    params: PhaseParams,
    *,
    shuffle_seed: int | None = None,
    labels: RowStore | None = None,
) -> CaptionedImages:
    """The images of a split with their features, their captions as word ids, <bos> to <eos>, and their label
    maps if given; captions longer than `params.max_length` are cut.
    """
    captions = vocabulary.encode_table(split.tokens, params.max_length - 1)
    return CaptionedImages(split.features, captions, shuffle_seed, labels)
