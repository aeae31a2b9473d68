"""In how many images' references each n-gram occurs: the weights of n-grams in CIDEr-D.

Shapes: C references, F words of all captions in a row, M n-grams.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from fsgr_model.runtime.errors import UserError
from fsgr_model.runtime.tensor_file import load_tensors, save_tensors
from fsgr_model.scoring.ngrams import (
    MAX_ORDER,
    Ints,
    KeyIndex,
    check_words,
    count_flat,
    flat_ngrams,
)
from fsgr_model.text.caption_table import CaptionTable
from fsgr_model.text.vocabulary import BOS, EOS, PAD, Vocabulary

Floats = NDArray[np.float64]
# The n-grams of so many images are counted at once.
IMAGES_A_PIECE = 8192


@dataclass(frozen=True)
class DocumentFrequencies:
    """In how many images' references an n-gram occurs: `keys` sorted, and their `counts`, both int64 [M].

    Built with the end token; n-grams without it then have the right counts for references without it too.
    """

    keys: Ints
    counts: Ints
    num_images: int
    num_words: int

    @classmethod
    def build(cls, references: Iterable[Sequence[Sequence[int]]], num_words: int) -> "DocumentFrequencies":
        """From the captions of each image, as word ids below `num_words`; special ids in them are ignored.

        Raises:
            ValueError: there are too many words: four word ids must fit into an int64.
        """
        return cls.of_table(CaptionTable.of(dict(enumerate(references))), num_words)

    @classmethod
    def of_table(cls, references: CaptionTable, num_words: int) -> "DocumentFrequencies":
        """As `build`. Images are taken in pieces, so that only their different n-grams are held together."""
        once: list[list[Ints]] = [[np.zeros(0, dtype=np.int64)] for _ in range(MAX_ORDER)]
        for start in range(0, len(references), IMAGES_A_PIECE):
            piece = references.rows(np.arange(start, min(start + IMAGES_A_PIECE, len(references))))
            word_F, caption_F, _ = flatten(piece)
            check_words(word_F, num_words)
            image_C = np.repeat(np.arange(len(piece)), piece.captions_A)
            for order, (key_M, caption_M) in enumerate(flat_ngrams(word_F, caption_F, num_words)):
                once[order].append(count_flat(key_M, image_C[caption_M], len(piece))[0])
        runs = [_runs(np.sort(np.concatenate(pieces))) for pieces in once]
        keys, counts = (np.concatenate(column) for column in zip(*runs, strict=True))
        return cls(keys, counts, len(references), num_words)

    def idf(self, key_M: Ints) -> Floats:
        """log(images / images with the n-gram), the latter at least 1; float64 [M]."""
        return self.idf_of_place[self.index.find(key_M)]

    @cached_property
    def index(self) -> KeyIndex:
        """The index of the n-grams; it is built when first needed."""
        return KeyIndex(self.keys)

    @cached_property
    def idf_of_place(self) -> Floats:
        """In the order of the index; the last one is for n-grams of no image, whose index is -1.

        An n-gram of all images has exactly 0: two logarithms that differ in their last bit would give
        a tiny weight, but not a tiny cosine.
        """
        count_M = np.append(self.counts[self.index.order], 1)
        images = max(self.num_images, 1)
        return np.where(count_M == images, 0.0, math.log(images) - np.log(count_M))

    def save(self, path: Path, vocabulary: Vocabulary) -> None:
        """Write them with the fingerprint of the words that the ids stand for."""
        tensors = {"keys": torch.from_numpy(self.keys), "counts": torch.from_numpy(self.counts)}
        save_tensors(path, tensors, {"words": vocabulary.fingerprint, "num_images": str(self.num_images)})

    @classmethod
    def load(cls, path: Path, vocabulary: Vocabulary) -> "DocumentFrequencies":
        """Read them.

        Raises:
            UserError: the file is missing or damaged, or was made with other words.
        """
        tensors, facts = load_tensors(path, "run dvc repro -f vocab")
        if facts["words"] != vocabulary.fingerprint:
            raise UserError(
                f"{path} was made with other words: fingerprint {facts['words']}, but the word list "
                f"has {vocabulary.fingerprint}; run dvc repro vocab"
            )
        keys, counts = tensors["keys"].numpy(), tensors["counts"].numpy()
        return cls(keys, counts, int(facts["num_images"]), len(vocabulary))


def flatten(references: CaptionTable) -> tuple[Ints, Ints, Ints]:
    """The words of references in a row, each with one `<eos>` after it, the captions that they belong to
    (both int64 [F]), and the words of each caption.
    """
    count = len(references.words_C)
    word_F = references.word_F.astype(np.int64)
    caption_F = np.repeat(np.arange(count), references.words_C)
    real_F = (word_F != BOS) & (word_F != EOS) & (word_F != PAD)
    word_F, caption_F = word_F[real_F], caption_F[real_F]
    length_C = np.bincount(caption_F, minlength=count) + 1
    ended_F = np.full(len(word_F) + count, EOS)
    ended_F[np.arange(len(word_F)) + caption_F] = word_F
    return ended_F, np.repeat(np.arange(count), length_C), length_C


def _runs(sorted_M: Ints) -> tuple[Ints, Ints]:
    """The different numbers of a sorted row, and how often each occurs."""
    first_M = np.flatnonzero(np.append(True, sorted_M[1:] != sorted_M[:-1])[: len(sorted_M)])
    return sorted_M[first_M], np.diff(first_M, append=len(sorted_M))
