"""Packed n-grams against counting and looking up with Python's own containers."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fsgr_model.scoring.ngrams import (
    MAX_ORDER,
    NOTHING,
    KeyIndex,
    check_words,
    count_flat,
    count_rows,
    flat_ngrams,
    row_ngrams,
)

NUM_WORDS = 12
sentences = st.lists(st.lists(st.integers(0, NUM_WORDS - 1), max_size=20), max_size=8)


def plain_counts(sentence: list[int]) -> Counter[int]:
    """Packed n-grams of a sentence, one after the other."""
    counts: Counter[int] = Counter()
    for length in range(1, MAX_ORDER + 1):
        for start in range(len(sentence) - length + 1):
            key = 0
            for word in sentence[start : start + length]:
                key = key * (NUM_WORDS + 1) + word + 1
            counts[key] += 1
    return counts


@settings(max_examples=50, deadline=None)
@given(captions=sentences)
def test_padded_and_flat_captions_have_the_n_grams_of_their_sentences(captions: list[list[int]]) -> None:
    lengths = np.array([len(caption) for caption in captions], dtype=np.int64)
    padded = np.full((len(captions), 21), 7)
    for row, caption in zip(padded, captions, strict=True):
        row[: len(caption)] = caption
    expected = {
        (number, key, count)
        for number, each in enumerate(captions)
        for key, count in plain_counts(each).items()
    }
    key_NKL = row_ngrams(padded, lengths, NUM_WORDS)
    keys, slots, counts = count_rows(key_NKL.reshape(len(captions) * MAX_ORDER, 21))
    assert set(zip((slots // MAX_ORDER).tolist(), keys.tolist(), counts.tolist(), strict=True)) == expected
    words = np.array([word for caption in captions for word in caption], dtype=np.int64)
    owners = np.repeat(np.arange(len(captions)), lengths)
    flat = [count_flat(*grams, len(captions)) for grams in flat_ngrams(words, owners, NUM_WORDS)]
    found = [each for k, o, c in flat for each in zip(o.tolist(), k.tolist(), c.tolist(), strict=True)]
    assert len(found) == len(expected) and set(found) == expected


def test_owners_of_any_size_are_counted() -> None:
    """One with nothing, few, and more than any width that rows are sorted in."""
    dice = np.random.default_rng(0)
    sizes = [0, 3, 9, 40, 2000, 1, 0, 130]
    owners = np.repeat(np.arange(len(sizes)), sizes)
    keys = dice.integers(0, 50, len(owners))
    found = count_flat(keys, owners, len(sizes))
    expected = Counter(zip(owners.tolist(), keys.tolist(), strict=True))
    counted = {(owner, key): count for key, owner, count in zip(*map(np.ndarray.tolist, found), strict=True)}
    assert counted == dict(expected)
    for owner in range(len(sizes)):
        of_owner = found[0][found[1] == owner]
        assert (np.diff(of_owner) > 0).all()


@pytest.mark.parametrize("groups", [1, 7])
def test_an_index_finds_what_is_there_and_nothing_else(groups: int) -> None:
    dice = np.random.default_rng(groups)
    pairs = np.unique(dice.integers(0, [2**62, groups], (5000, 2)), axis=0)
    index = KeyIndex(pairs[:, 0].copy(), pairs[:, 1].copy(), groups)
    asked = np.concatenate([pairs[::3], dice.integers(0, [2**62, groups], (500, 2))])
    known = {tuple(pair) for pair in pairs.tolist()}
    places = index.find(asked[:, 0].copy(), asked[:, 1].copy())
    assert [place >= 0 for place in places] == [tuple(pair) in known for pair in asked.tolist()]
    there = places >= 0
    assert there.sum() > 1000 and (index.keys[places[there]] == asked[there, 0]).all()
    assert (pairs[index.order[places[there]], 1] == asked[there, 1]).all()


def test_a_key_of_another_group_is_not_found() -> None:
    index = KeyIndex(np.array([5, 6]), np.array([0, 1]), 2)
    assert (index.find(np.array([5, 6, 5, 6]), np.array([0, 1, 1, 0])) >= 0).tolist() == [
        True,
        True,
        False,
        False,
    ]


def test_an_empty_index_finds_nothing() -> None:
    assert KeyIndex(np.zeros(0, dtype=np.int64)).find(np.array([3, NOTHING])).tolist() == [-1, -1]


def test_words_must_fit() -> None:
    check_words(np.array([0, NUM_WORDS - 1]), NUM_WORDS)
    with pytest.raises(ValueError, match="-1 to 3 are not all below 12"):
        check_words(np.array([3, -1]), NUM_WORDS)
