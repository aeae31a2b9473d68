"""CIDEr-D (Vedantam et al., arXiv 1411.5726, section 5 and appendix) on word ids, in NumPy.

Equal to pycocoevalcap's `Cider` (clipped counts, Gaussian length penalty of sigma 6, n-grams of 1 to 4
words, times 10: 1.0 is what tables print as 100), but it takes any document frequencies and prepares the
references once.
An n-gram is one int64: its ids plus one, as digits to the base of the number of words plus one.

Shapes: N captions, L positions, F words of all captions in a row, M n-grams, R references of the image that
has the most, A images. `order` is the length of an n-gram minus one.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from fsgr_model.errors import UserError
from fsgr_model.tensor_file import load_tensors, save_tensors
from fsgr_model.text.vocabulary import BOS, EOS, PAD, Vocabulary

MAX_ORDER = 4
SIGMA = 6.0
Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


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
            ValueError: there are more words than an int64 can hold four of.
        """
        images = list(references)
        captions = [_with_end(caption) for of_image in images for caption in of_image]
        image_of_caption = np.repeat(np.arange(len(images)), [len(of_image) for of_image in images])
        key_M, caption_M = _ngrams(*_flatten(captions), num_words)
        key_M, _, _ = _count(key_M, image_of_caption[caption_M])
        keys, counts = np.unique(key_M, return_counts=True)
        return cls(keys, counts.astype(np.int64), len(images), num_words)

    def idf(self, key_M: Ints) -> Floats:
        """log(images / images with the n-gram), the latter at least 1; float64 [M].

        An n-gram of all images has exactly 0: two logarithms that differ in their last bit would leave a
        weight that is tiny, and a cosine that is not.
        """
        place_M, known_M = _find(self.keys, key_M)
        count_M = np.where(known_M, self.counts[place_M], 1) if len(self.keys) else np.ones(len(key_M))
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


class CiderD:
    """Scores captions against references that are prepared once.

    Args:
        references: image id -> captions as word ids; `<bos>`, `<eos>` and `<pad>` in them are ignored.
        frequencies: document frequencies, of these references or of another corpus.
        end_token: count `<eos>` as a word: at the end of every reference, and of a caption that has one.
    """

    def __init__(
        self,
        references: Mapping[int, Sequence[Sequence[int]]],
        frequencies: DocumentFrequencies,
        end_token: bool,
    ) -> None:
        self.frequencies = frequencies
        self.end_token = end_token
        self._index_of = {image_id: index for index, image_id in enumerate(references)}
        self._num_references = np.array([len(of_image) for of_image in references.values()], dtype=np.int64)
        captions = [_with_end(caption) for caption in chain(*references.values())]
        if not end_token:
            captions = [caption[:-1] for caption in captions]
        image_C = np.repeat(np.arange(len(references)), self._num_references)
        first_A = np.cumsum(self._num_references) - self._num_references
        place_C = np.arange(len(captions)) - first_A[image_C]
        self._prepare(captions, image_C, place_C)

    def _prepare(self, captions: list[list[int]], image_C: Ints, place_C: Ints) -> None:
        """Sorted (image, n-gram) pairs with their counts, and the norms and length of each reference."""
        A, R = len(self._num_references), int(self._num_references.max(initial=0))
        word_F, caption_F = _flatten(captions)
        key_M, caption_M, count_M = _count(*_ngrams(word_F, caption_F, self.frequencies.num_words))
        idf_M = self.frequencies.idf(key_M)
        norm_CK = _norms(key_M, caption_M, count_M * idf_M, len(captions), self.frequencies.num_words)
        self._norm_ARK = np.zeros((A, R, MAX_ORDER))
        self._norm_ARK[image_C, place_C] = norm_CK
        self._length_AR = np.zeros((A, R))
        self._length_AR[image_C, place_C] = _lengths(caption_F, len(captions))
        self._keys, gram_M = np.unique(key_M, return_inverse=True)
        self._idf = self.frequencies.idf(self._keys)
        pair_M = image_C[caption_M] * len(self._keys) + gram_M
        self._pairs, row_M = np.unique(pair_M, return_inverse=True)
        self._counts = np.zeros((len(self._pairs), R), dtype=np.uint16)
        self._counts[row_M, place_C[caption_M]] = count_M

    def score(self, caption_NL: NDArray[np.integer], image_ids: Sequence[int]) -> Floats:
        """CIDEr-D of each caption, float64 [N].

        Args:
            caption_NL: word ids, one caption a row, which ends at its first `<eos>` or `<pad>`.
            image_ids: the image of each row.

        Raises:
            ValueError: an image has no references, or an id is not below the number of words.
        """
        unknown = {image_id for image_id in image_ids if image_id not in self._index_of}
        if unknown:
            raise ValueError(f"images without references: {sorted(unknown)[:10]}")
        N = len(image_ids)
        image_N = np.array([self._index_of[image_id] for image_id in image_ids], dtype=np.int64)
        word_F, caption_F = _flatten_rows(np.asarray(caption_NL, dtype=np.int64), self.end_token)
        num_words = self.frequencies.num_words
        key_M, caption_M, count_M = _count(*_ngrams(word_F, caption_F, num_words))
        weight_M = count_M * self.frequencies.idf(key_M)
        norm_NK = _norms(key_M, caption_M, weight_M, N, num_words)
        dot_NKR = self._dot_products(key_M, caption_M, weight_M, image_N)
        scale_NKR = norm_NK[:, :, None] * self._norm_ARK[image_N].transpose(0, 2, 1)
        cosine_NKR = np.divide(dot_NKR, scale_NKR, out=np.zeros_like(dot_NKR), where=scale_NKR != 0)
        difference_NR = _lengths(caption_F, N)[:, None] - self._length_AR[image_N]
        penalty_NR = np.exp(-(difference_NR**2) / (2 * SIGMA**2))
        total_N = (cosine_NKR.mean(axis=1) * penalty_NR).sum(axis=1)
        return 10.0 * total_N / np.maximum(self._num_references[image_N], 1)

    def _dot_products(self, key_M: Ints, caption_M: Ints, weight_M: Floats, image_N: Ints) -> Floats:
        """Sum of min(caption's, reference's) x reference's weight over shared n-grams, [N, order, R]."""
        gram_M, known_M = _find(self._keys, key_M)
        row_M, shared_M = _find(self._pairs, image_N[caption_M] * len(self._keys) + gram_M)
        shared_M &= known_M
        row_S, gram_S = row_M[shared_M], gram_M[shared_M]
        reference_SR = self._counts[row_S] * self._idf[gram_S][:, None]
        product_SR = np.minimum(weight_M[shared_M][:, None], reference_SR) * reference_SR
        slot_S = caption_M[shared_M] * MAX_ORDER + _order(key_M[shared_M], self.frequencies.num_words)
        N, R = len(image_N), product_SR.shape[1]
        sums = [np.bincount(slot_S, product_SR[:, r], N * MAX_ORDER) for r in range(R)]
        return np.array(sums, dtype=np.float64).reshape(R, N, MAX_ORDER).transpose(1, 2, 0)


def _with_end(caption: Sequence[int]) -> list[int]:
    """The words of a reference and one `<eos>`."""
    return [*(word for word in caption if word not in (BOS, EOS, PAD)), EOS]


def _flatten(captions: Sequence[Sequence[int]]) -> tuple[Ints, Ints]:
    """All words in a row, and which caption each belongs to: int64 [F] both."""
    lengths = [len(caption) for caption in captions]
    word_F = np.fromiter(chain.from_iterable(captions), dtype=np.int64, count=sum(lengths))
    return word_F, np.repeat(np.arange(len(captions)), lengths)


def _flatten_rows(caption_NL: Ints, end_token: bool) -> tuple[Ints, Ints]:
    """The same for padded rows, each up to its first `<eos>` (kept with `end_token`) or `<pad>`."""
    ended_NL = np.cumsum((caption_NL == EOS) | (caption_NL == PAD), axis=1)
    kept_NL = ended_NL == 0
    if end_token:
        kept_NL |= (ended_NL == 1) & (caption_NL == EOS)
    return caption_NL[kept_NL], np.nonzero(kept_NL)[0]


def _ngrams(word_F: Ints, caption_F: Ints, num_words: int) -> tuple[Ints, Ints]:
    """Key and caption of every n-gram of 1 to 4 words: int64 [M] both."""
    base = num_words + 1
    if base**MAX_ORDER >= 2**63:
        raise ValueError(f"{num_words} words are too many: four of them must fit into an int64")
    if word_F.size and not 0 <= word_F.min() <= word_F.max() < num_words:
        raise ValueError(f"word ids {word_F.min()} to {word_F.max()} are not all below {num_words}")
    keys, captions = [], []
    for length in range(1, min(MAX_ORDER, len(word_F)) + 1):
        starts = len(word_F) - length + 1
        inside = caption_F[:starts] == caption_F[length - 1 :]
        key = np.zeros(starts, dtype=np.int64)
        for offset in range(length):
            key = key * base + word_F[offset : offset + starts] + 1
        keys.append(key[inside])
        captions.append(caption_F[:starts][inside])
    nothing = [np.zeros(0, dtype=np.int64)]
    return np.concatenate(keys or nothing), np.concatenate(captions or nothing)


def _count(key_M: Ints, owner_M: Ints) -> tuple[Ints, Ints, Ints]:
    """Different (owner, key) pairs in order, and how often each occurs: keys, owners, counts."""
    keys, gram_M = np.unique(key_M, return_inverse=True)
    pairs, counts = np.unique(owner_M * max(len(keys), 1) + gram_M, return_counts=True)
    owners, grams = np.divmod(pairs, max(len(keys), 1))
    return keys[grams], owners, counts


def _find(sorted_keys: Ints, key_M: Ints) -> tuple[Ints, NDArray[np.bool_]]:
    """Where each key lies, and whether it is there at all (if not, its place is any valid one)."""
    if not len(sorted_keys):
        return np.zeros(len(key_M), dtype=np.int64), np.zeros(len(key_M), dtype=bool)
    place_M = np.minimum(np.searchsorted(sorted_keys, key_M), len(sorted_keys) - 1)
    return place_M, sorted_keys[place_M] == key_M


def _order(key_M: Ints, num_words: int) -> Any:
    """Words of an n-gram minus one: 0 to 3."""
    powers = [(num_words + 1) ** exponent for exponent in range(1, MAX_ORDER)]
    return np.searchsorted(np.array(powers, dtype=np.int64), key_M, side="right")


def _norms(key_M: Ints, caption_M: Ints, weight_M: Floats, N: int, num_words: int) -> Floats:
    """Euclidean norm of each caption's weights, by order: [N, 4]."""
    slot_M = caption_M * MAX_ORDER + _order(key_M, num_words)
    return np.sqrt(np.bincount(slot_M, weight_M**2, N * MAX_ORDER)).reshape(N, MAX_ORDER)


def _lengths(caption_F: Ints, N: int) -> Any:
    """Length that the penalty compares: pairs of neighbouring words, as the official scorer counts it."""
    return np.maximum(np.bincount(caption_F, minlength=N) - 1, 0)
