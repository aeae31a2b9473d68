"""Word lists of self-critical.pytorch and of a-PyTorch-Tutorial-to-Image-Captioning."""

import json
from pathlib import Path
from typing import Any

import pytest

from fsgr_model.runtime.errors import UserError
from fsgr_model.text.imported_words import import_words
from fsgr_model.text.vocabulary import SPECIALS

WORDS = ["a", "dog", "runs", "unk", "start", "12:43", "é"]
COCOTALK = {
    "ix_to_word": {str(number): word for number, word in enumerate([*WORDS, "UNK"], start=1)},
    "images": [{"split": "train", "file_path": "train2014/COCO_train2014_000000000009.jpg", "id": 9}],
}
WORDMAP = {word: number for number, word in enumerate([*WORDS, "<unk>", "<start>", "<end>"], start=1)}


def write(folder: Path, content: Any) -> Path:
    path = folder / "list.json"
    path.write_text(json.dumps(content))
    return path


@pytest.mark.parametrize(
    ("content", "left_out"),
    [
        (COCOTALK, "UNK"),
        ({"ix_to_word": dict(reversed(COCOTALK["ix_to_word"].items()))}, "UNK"),  # type: ignore[attr-defined]
        (WORDMAP | {"<pad>": 0}, "<pad>; <unk>; <start>; <end>"),
        (dict(sorted(WORDMAP.items())) | {"<pad>": 0}, "<pad>; <unk>; <start>; <end>"),
    ],
)
def test_words_keep_their_order_behind_our_special_ones(tmp_path: Path, content: Any, left_out: str) -> None:
    vocabulary, told = import_words(write(tmp_path, content))
    assert vocabulary.words == [*SPECIALS, *WORDS]
    assert told.endswith(f"for ours stand in their place: {left_out}")


def test_more_than_nine_words_are_in_the_order_of_numbers(tmp_path: Path) -> None:
    words = [f"w{number}" for number in range(1, 31)]
    content = {"ix_to_word": {str(number): word for number, word in enumerate(words, start=1)}}
    assert import_words(write(tmp_path, content))[0].words[4:] == words


def test_a_list_of_ours_is_as_before(tmp_path: Path) -> None:
    for content in ([*SPECIALS, "a"], {"itos": [*SPECIALS, "a"], "stoi": {"<unk>": 0, "<pad>": 1, "<bos>": 2,
                                                                         "<eos>": 3, "a": 4}}):  # fmt: skip
        vocabulary, told = import_words(write(tmp_path, content))
        assert (vocabulary.words, told) == ([*SPECIALS, "a"], "")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"ix_to_word": {"1": "a", "2": "a"}}, "repeated: .'a'."),
        ({"ix_to_word": {"1": "a", "two": "b"}}, "ids in `ix_to_word` must be whole numbers; found two"),
        ({"ix_to_word": {"1": "a", "01": "b"}}, "'a' and 'b' have the same id, 1"),
        ({"ix_to_word": ["a"]}, r"list\.json: the file: Input should be a valid dictionary"),
        ({"a": 1, "b": 1}, "'a' and 'b' have the same id, 1"),
        ({"a": True}, "must be a JSON list of words"),
        ({}, "must be a JSON list of words"),
    ],
)
def test_lists_that_give_a_word_no_id_of_its_own(tmp_path: Path, content: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        import_words(write(tmp_path, content))
