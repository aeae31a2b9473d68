"""Faults that a caption shows by itself, on word ids: n-grams that it repeats, and an end in the middle.

Shapes: N captions, L positions, K orders of n-grams, V words.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from fsgr_model.scoring.cider_d import caption_lengths
from fsgr_model.scoring.document_frequencies import Floats
from fsgr_model.scoring.endings import BAD_ENDINGS
from fsgr_model.scoring.ngrams import MAX_ORDER, count_rows, row_ngrams
from fsgr_model.text.vocabulary import Vocabulary


class Repetition:
    """The share of the n-grams of 2 to 4 words that a caption has had before.

    All three orders are counted together: 1 - distinct n-grams / n-grams, as "rep-n" (Welleck et al., arXiv
    1908.04319, section 6) has it for one order. Single words are left out, since a good caption says "a"
    twice.
    """

    def __init__(self, num_words: int) -> None:
        self.num_words = num_words

    def score(self, caption_NL: NDArray[np.integer], image_ids: Sequence[int] = ()) -> Floats:
        """The share of each caption, float64 [N]; a row ends at its first `<eos>` or `<pad>`."""
        word_NL = np.asarray(caption_NL, dtype=np.int64)
        length_N = caption_lengths(word_NL, end_token=False)
        key_NKL = row_ngrams(word_NL, length_N, self.num_words)[:, 1:]
        _, slot_M, _ = count_rows(key_NKL.reshape(-1, word_NL.shape[1]))
        distinct_N = np.bincount(slot_M // (MAX_ORDER - 1), minlength=len(word_NL))
        ngrams_N = np.maximum(length_N[:, None] - np.arange(1, MAX_ORDER), 0).sum(axis=1)
        return (ngrams_N - distinct_N) / np.maximum(ngrams_N, 1)


class BadEndings:
    """1 for a caption whose last word is an article, a preposition or a conjunction, else 0."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        self.bad_V = np.array([word in BAD_ENDINGS for word in vocabulary.words])

    def score(self, caption_NL: NDArray[np.integer], image_ids: Sequence[int] = ()) -> Floats:
        """Float64 [N]; a row ends at its first `<eos>` or `<pad>`, and an empty one ends well."""
        word_NL = np.asarray(caption_NL, dtype=np.int64)
        length_N = caption_lengths(word_NL, end_token=False)
        last_N = word_NL[np.arange(len(word_NL)), np.maximum(length_N - 1, 0)]
        return np.where(length_N > 0, self.bad_V[last_N], False).astype(np.float64)
