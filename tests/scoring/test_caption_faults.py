"""Repeated n-grams and bad endings of captions as word ids, beside plain counts of words."""

import numpy as np
import pytest

from fsgr_model.scoring.caption_faults import BadEndings, Repetition
from fsgr_model.scoring.report import ends_badly
from fsgr_model.text.vocabulary import EOS, PAD, SPECIALS, Vocabulary

VOCABULARY = Vocabulary([*SPECIALS, "a", "dog", "on", "the", "grass", "and"])
CAPTIONS = {
    "a dog on the grass": 0,
    # Pairs "a dog", "dog and", "and a", "a dog": one of 4; of 3 and 2 words none of 3 and 2.
    "a dog and a dog": 1 / 9,
    # 5 pairs, 4 triples, 3 of four words, each the same as the first.
    "dog dog dog dog dog dog": 9 / 12,
    "a dog on a": 0,
    "dog": 0,
    "": 0,
}


def rows_of(captions: list[str]) -> np.ndarray:
    rows = [[VOCABULARY.words.index(word) for word in caption.split()] + [EOS] for caption in captions]
    return np.array([row + [PAD] * (9 - len(row)) for row in rows])


def test_repetition_by_hand() -> None:
    found = Repetition(len(VOCABULARY)).score(rows_of(list(CAPTIONS)))
    np.testing.assert_allclose(found, list(CAPTIONS.values()))


def test_a_caption_without_an_end_token_is_counted_to_its_last_word() -> None:
    row_NL = rows_of(["dog dog dog"])[:, :3]
    np.testing.assert_allclose(Repetition(len(VOCABULARY)).score(row_NL), [1 / 3])
    assert BadEndings(VOCABULARY).score(rows_of(["dog on a"])[:, :3]) == pytest.approx([1])


def test_bad_endings_are_those_of_the_report() -> None:
    captions = [*CAPTIONS, "the grass and", "dog the"]
    found = BadEndings(VOCABULARY).score(rows_of(captions))
    assert found.tolist() == [float(ends_badly(caption)) for caption in captions]
    assert 0 < found.sum() < len(captions)
