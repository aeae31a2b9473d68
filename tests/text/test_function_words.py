"""Phrases are the runs of words between function words."""

import pytest

from fsgr_model.text.function_words import phrase_of_words


@pytest.mark.parametrize(
    ("caption", "expected"),
    [
        ("a small red car and two dogs on a beach", [-1, 0, 0, 0, -1, 1, 1, -1, -1, 2]),
        ("cats", [0]),
        ("the cat sits in front of the man 's house", [-1, 0, 0, -1, -1, -1, -1, 1, -1, 2]),
        ("red red", [0, 0]),
        ("there it is", [0, 0, 0]),
        ("", []),
    ],
)
def test_phrases_of_a_caption(caption, expected):
    assert phrase_of_words(caption.split()) == expected
