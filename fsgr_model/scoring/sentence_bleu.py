"""BLEU-4 of single captions on word ids (Papineni et al., ACL 2002), in NumPy.

Equal to the scores by sentence of pycocoevalcap's `Bleu`: clipped counts of n-grams of 1 to 4 words, the
reference nearest in length, and its small numbers that keep a caption without a common n-gram above zero.

Shapes: N captions, C references, L positions, F words of all captions in a row, M n-grams, K orders of
n-grams, A images, R references of the image that has the most.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from fsgr_model.scoring.cider_d import caption_lengths
from fsgr_model.scoring.document_frequencies import Floats, flatten
from fsgr_model.scoring.image_scores import SMALL, TINY
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
from fsgr_model.text.vocabulary import EOS

NO_REFERENCE = np.iinfo(np.int64).max // 4


class SentenceBleu:
    """Scores captions against the references of the images that a batch asks for.

    Args:
        references: word ids; `<bos>`, `<eos>` and `<pad>` in them are ignored.
        num_words: word ids are below it.
        end_token: count `<eos>` as a word: at the end of every reference, and of a caption that has one.
    """

    def __init__(self, references: CaptionTable, num_words: int, end_token: bool) -> None:
        self.references, self.num_words, self.end_token = references, num_words, end_token

    def score(self, caption_NL: NDArray[np.integer], image_ids: Sequence[int]) -> Floats:
        """BLEU-4 of each caption, float64 [N].

        Args:
            caption_NL: word ids, one caption per row, which ends at its first `<eos>` or `<pad>`.
            image_ids: the image of each row.
        """
        asked, image_N = np.unique(np.asarray(image_ids, dtype=np.int64), return_inverse=True)
        index, most_M, length_AR = self._prepared(self.references.of_images(asked.tolist()))
        word_NL = np.asarray(caption_NL, dtype=np.int64)
        N, length_N = len(word_NL), caption_lengths(word_NL, self.end_token)
        key_NKL = row_ngrams(word_NL, length_N, self.num_words)
        key_M, slot_M, count_M = count_rows(key_NKL.reshape(N * MAX_ORDER, word_NL.shape[1]))
        row_M = index.find(key_M, image_N[slot_M // MAX_ORDER])
        clipped_M = np.where(row_M >= 0, np.minimum(count_M, most_M[row_M]), 0)
        matches_NK = np.bincount(slot_M, clipped_M, N * MAX_ORDER).reshape(N, MAX_ORDER)
        ngrams_NK = np.maximum(length_N[:, None] - np.arange(MAX_ORDER), 0)
        precision_N = ((matches_NK + TINY) / (ngrams_NK + SMALL)).prod(axis=1) ** (1 / MAX_ORDER)
        nearest_N = _nearest(length_AR[image_N], length_N)
        ratio_N = (length_N + TINY) / (nearest_N + SMALL)
        return precision_N * np.exp(np.minimum(1 - 1 / ratio_N, 0))

    def _prepared(self, table: CaptionTable) -> tuple[KeyIndex, Ints, Ints]:
        """An index of (image, n-gram) pairs, the most that any reference has of each, and all lengths."""
        A = len(table)
        image_C = np.repeat(np.arange(A), table.captions_A)
        place_C = np.arange(len(image_C)) - table.caption_start[image_C]
        word_F, caption_F, length_C = flatten(table)
        if not self.end_token:
            word_F, caption_F, length_C = word_F[word_F != EOS], caption_F[word_F != EOS], length_C - 1
        check_words(word_F, self.num_words)
        length_AR = np.full((A, int(table.captions_A.max(initial=1))), NO_REFERENCE)
        length_AR[image_C, place_C] = length_C
        counted = [
            count_flat(key_M, caption_M, len(image_C))
            for key_M, caption_M in flat_ngrams(word_F, caption_F, self.num_words)
        ]
        none = np.zeros(0, dtype=np.int64)
        key_M, caption_M, count_M = map(np.concatenate, zip((none, none, none), *counted, strict=True))
        image_M = image_C[caption_M]
        # Pairs in order, equal ones together, the largest count of each pair last.
        order_M = np.lexsort((count_M, key_M, image_M))
        key_M, image_M, count_M = key_M[order_M], image_M[order_M], count_M[order_M]
        last_M = np.append((key_M[1:] != key_M[:-1]) | (image_M[1:] != image_M[:-1]), True)[: len(key_M)]
        index = KeyIndex(key_M[last_M], image_M[last_M], A)
        return index, np.append(count_M[last_M][index.order], 0), length_AR


def _nearest(length_NR: Ints, length_N: Ints) -> Ints:
    """The reference length nearest to each caption's, the shorter of two."""
    # Twice the distance, and one more for a longer reference: the smallest is the one that counts.
    rank_NR = 2 * np.abs(length_NR - length_N[:, None]) + (length_NR > length_N[:, None])
    return np.take_along_axis(length_NR, rank_NR.argmin(axis=1)[:, None], axis=1)[:, 0]
