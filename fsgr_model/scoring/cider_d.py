"""CIDEr-D (Vedantam et al., arXiv 1411.5726, section 5 and appendix) on word ids, in NumPy.

Equal to pycocoevalcap's `Cider` (clipped counts, Gaussian length penalty of sigma 6, n-grams of 1 to 4
words, times 10: 1.0 is what tables print as 100), but it accepts any document frequencies and prepares the
references once.

Shapes: N captions, C references, L positions, F words of all captions in a row, M n-grams, K orders of
n-grams, S n-grams that a caption shares with its references, R references of the image that has the most,
A images.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from fsgr_model.scoring.document_frequencies import DocumentFrequencies, Floats, flatten
from fsgr_model.scoring.ngrams import (
    MAX_ORDER,
    Ints,
    KeyIndex,
    check_words,
    count_flat,
    count_rows,
    flat_ngrams,
    row_ngrams,
)
from fsgr_model.text.caption_table import CaptionTable
from fsgr_model.text.vocabulary import EOS, PAD

SIGMA = 6.0


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
        table = CaptionTable.of(references)
        self.image_ids = table.image_ids
        self.order_of_ids = np.argsort(self.image_ids)
        self.num_references_A = table.captions_A
        image_C = np.repeat(np.arange(len(table)), self.num_references_A)
        place_C = np.arange(len(image_C)) - table.caption_start[image_C]
        word_F, caption_F, length_C = flatten(table)
        if not end_token:
            word_F, caption_F, length_C = word_F[word_F != EOS], caption_F[word_F != EOS], length_C - 1
        check_words(word_F, frequencies.num_words)
        A, R = len(table), int(self.num_references_A.max(initial=0))
        self.norm_AKR = np.zeros((A, MAX_ORDER, R))
        self.penalised_AR = np.zeros((A, R))
        self.penalised_AR[image_C, place_C] = _penalised(length_C)
        self._count_ngrams(word_F, caption_F, image_C, place_C)

    def _count_ngrams(self, word_F: Ints, caption_F: Ints, image_C: Ints, place_C: Ints) -> None:
        """Norms of each reference, and an index of (image, n-gram) pairs with the count in each reference."""
        A, _, R = self.norm_AKR.shape
        keys, images, counted = [], [], []
        for order, (key_M, caption_M) in enumerate(
            flat_ngrams(word_F, caption_F, self.frequencies.num_words)
        ):
            of_images, owners, _ = count_flat(key_M, image_C[caption_M], A)
            keys.append(of_images)
            images.append(owners)
            of_captions, captions, counts = count_flat(key_M, caption_M, len(image_C))
            counted.append((of_captions, captions, counts))
            square_M = (counts * self.frequencies.idf(of_captions)) ** 2
            norm_C = np.sqrt(np.bincount(captions, square_M, len(image_C)))
            self.norm_AKR[image_C, order, place_C] = norm_C
        self.index = KeyIndex(_joined(keys), _joined(images), A)
        self.counts_MR = np.zeros((len(self.index.keys), R), dtype=np.uint16)
        for key_M, caption_M, count_M in counted:
            row_M = self.index.find(key_M, image_C[caption_M])
            self.counts_MR[row_M, place_C[caption_M]] = count_M

    def score(self, caption_NL: NDArray[np.integer], image_ids: Sequence[int]) -> Floats:
        """CIDEr-D of each caption, float64 [N].

        Args:
            caption_NL: word ids, one caption per row, which ends at its first `<eos>` or `<pad>`.
            image_ids: the image of each row.

        Raises:
            ValueError: an image has no references, or an id is not below the number of words.
        """
        image_N, word_NL = self.places(image_ids), np.asarray(caption_NL, dtype=np.int64)
        N, num_words = len(image_N), self.frequencies.num_words
        length_N = caption_lengths(word_NL, self.end_token)
        check_words(word_NL[np.arange(word_NL.shape[1]) < length_N[:, None]], num_words)
        key_NKL = row_ngrams(word_NL, length_N, num_words)
        key_M, slot_M, count_M = count_rows(key_NKL.reshape(N * MAX_ORDER, word_NL.shape[1]))
        idf_M = self.frequencies.idf(key_M)
        weight_M = count_M * idf_M
        norm_NK = np.sqrt(np.bincount(slot_M, weight_M**2, N * MAX_ORDER)).reshape(N, MAX_ORDER)
        row_M = self.index.find(key_M, image_N[slot_M // MAX_ORDER])
        shared_S = np.flatnonzero(row_M >= 0)
        dot_NKR = self._dot_products(
            row_M[shared_S], slot_M[shared_S], idf_M[shared_S], weight_M[shared_S], N=N
        )
        scale_NKR = norm_NK[:, :, None] * self.norm_AKR[image_N]
        # Where a norm is zero, so is the product.
        cosine_NKR = dot_NKR / np.where(scale_NKR == 0, 1, scale_NKR)
        difference_NR = _penalised(length_N)[:, None] - self.penalised_AR[image_N]
        penalty_NR = np.exp(-(difference_NR**2) / (2 * SIGMA**2))
        total_N = (cosine_NKR.mean(axis=1) * penalty_NR).sum(axis=1)
        return 10.0 * total_N / np.maximum(self.num_references_A[image_N], 1)

    def places(self, image_ids: Sequence[int]) -> Ints:
        """The indices of images among the references, int64 [N].

        Raises:
            ValueError: an image has no references.
        """
        id_N = np.asarray(image_ids, dtype=np.int64)
        near_N = np.searchsorted(self.image_ids, id_N, sorter=self.order_of_ids)
        place_N = self.order_of_ids[np.minimum(near_N, len(self.image_ids) - 1)]
        unknown_N = self.image_ids[place_N] != id_N
        if unknown_N.any():
            raise ValueError(f"images without references: {np.unique(id_N[unknown_N])[:10].tolist()}")
        return place_N

    def _dot_products(self, row_S: Ints, slot_S: Ints, idf_S: Floats, weight_S: Floats, *, N: int) -> Floats:
        """Sum of min(caption's, reference's) x reference's weight over shared n-grams, [N, K, R]."""
        reference_SR = self.counts_MR[row_S] * idf_S[:, None]
        product_SR = np.minimum(weight_S[:, None], reference_SR) * reference_SR
        R = product_SR.shape[1]
        slot_SR = slot_S[:, None] * R + np.arange(R)
        sums = np.bincount(slot_SR.ravel(), product_SR.ravel(), N * MAX_ORDER * R)
        return sums.astype(np.float64, copy=False).reshape(N, MAX_ORDER, R)


class CiderDByBatch:
    """As `CiderD`, with the references of an image prepared when a batch asks for them.

    Of all references together, COCO's take half a minute and 4 GB to prepare; those of a batch, milliseconds.
    """

    def __init__(self, references: CaptionTable, frequencies: DocumentFrequencies, end_token: bool) -> None:
        self.references, self.frequencies, self.end_token = references, frequencies, end_token

    def score(self, caption_NL: NDArray[np.integer], image_ids: Sequence[int]) -> Floats:
        """CIDEr-D of each caption, float64 [N].

        Raises:
            ValueError: as `CiderD.score`.
        """
        asked = list(dict.fromkeys(image_ids))
        if unknown := [image_id for image_id in asked if image_id not in self.references]:
            raise ValueError(f"images without references: {unknown[:10]}")
        scorer = CiderD(self.references.of_images(asked), self.frequencies, self.end_token)
        return scorer.score(caption_NL, image_ids)

    def prepared(self) -> CiderD:
        """The scorer with all references prepared, for a GPU, which keeps them."""
        return CiderD(self.references, self.frequencies, self.end_token)


def _joined(parts: Sequence[Ints]) -> Ints:
    return np.concatenate([np.zeros(0, dtype=np.int64), *parts])


def caption_lengths(caption_NL: Ints, end_token: bool) -> Ints:
    """Words of each padded row up to its first `<eos>` (counted with `end_token`) or `<pad>`, [N]."""
    eos_NL = caption_NL == EOS
    going_on_NL = np.logical_and.accumulate(~(eos_NL | (caption_NL == PAD)), axis=1)
    length_N = going_on_NL.sum(axis=1)
    if end_token:
        ended_N = length_N < caption_NL.shape[1]
        rows = np.flatnonzero(ended_N)
        length_N[rows] += eos_NL[rows, length_N[rows]]
    return length_N


def _penalised(length_N: Ints) -> Ints:
    """The length in the penalty: pairs of neighbouring words, as the official scorer counts it."""
    return np.maximum(length_N - 1, 0)
