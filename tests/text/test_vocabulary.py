import json
from collections import Counter
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fsgr_model.runtime.errors import UserError
from fsgr_model.text.vocabulary import (
    BOS,
    EOS,
    PAD,
    SPECIALS,
    UNK,
    Vocabulary,
    build_vocabulary,
    load_word_embeddings,
    save_word_embeddings,
)

DOGS = Counter(["a", "dog", "runs", "a", "dog", "a", "cat", "the", "cat"])


def test_order_is_specials_then_frequency_then_alphabet() -> None:
    assert build_vocabulary(DOGS, 1).words == [*SPECIALS, "a", "cat", "dog", "runs", "the"]


def test_rare_words_are_unknown() -> None:
    vocabulary = build_vocabulary(DOGS, 2)
    assert vocabulary.words == [*SPECIALS, "a", "cat", "dog"]
    assert vocabulary.encode(["a", "runs"], 5) == [BOS, 4, UNK, EOS]


def test_a_caption_is_cut_before_the_end_token() -> None:
    assert build_vocabulary(DOGS, 1).encode(["a", "dog", "runs"], 2) == [BOS, 4, 6, EOS]


def test_no_word_is_frequent_enough() -> None:
    with pytest.raises(UserError, match="no word occurs 9 times"):
        build_vocabulary(DOGS, 9)


@given(st.lists(st.sampled_from(["a", "cat", "dog", "runs", "the"]), max_size=8))
def test_decoding_undoes_encoding(tokens: list[str]) -> None:
    vocabulary = build_vocabulary(DOGS, 1)
    assert vocabulary.decode([*vocabulary.encode(tokens, 8), PAD, 4]) == " ".join(tokens)


def test_unlisted_words_get_ids_of_their_own() -> None:
    vocabulary = build_vocabulary(DOGS, 1)
    unlisted: dict[str, int] = {}
    assert vocabulary.encode_open(["a", "zebra", "22\xa03/4"], unlisted) == [4, 9, 10, 11]
    assert vocabulary.encode_open(["22", "zebra", "new"], unlisted) == [10, 9, 12]


@pytest.mark.parametrize("wrap", [list, lambda words: {"itos": words}])
def test_an_imported_list_keeps_every_id(tmp_path: Path, wrap: object) -> None:
    """Words of a foreign list may be spaces and punctuation; their ids count on."""
    words = [*SPECIALS, "a", " ", "\n", '"', "zebra", "Zebra"]
    path = tmp_path / "words.json"
    path.write_text(json.dumps(wrap(words)))  # type: ignore[operator]
    loaded = Vocabulary.load(path)
    assert loaded.words == words
    assert loaded.encode(["zebra", "Zebra", " "], 9) == [BOS, 8, 9, 5, EOS]


def test_saved_and_loaded_are_equal(tmp_path: Path) -> None:
    vocabulary = build_vocabulary({"café": 1, "a": 1}, 1)
    vocabulary.save(tmp_path / "words.json")
    loaded = Vocabulary.load(tmp_path / "words.json")
    assert (loaded.words, loaded.fingerprint) == (vocabulary.words, vocabulary.fingerprint)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (["a", "b"], "must begin with <unk>"),
        (["<pad>", *SPECIALS[2:], "a", "<unk>"], "has <unk> at 4, <pad> at 0, <bos> at 1, <eos> at 2"),
        ([*SPECIALS[:3], "</s>"], "no <eos>"),
        ({"itos": [*SPECIALS, "a"], "stoi": {"<unk>": 1}}, "`stoi` gives other ids"),
        ([*SPECIALS, "dog", "dog"], "repeated: .'dog'."),
        ([*SPECIALS, 5], "must be a JSON list of words"),
        ({"words": []}, "must be a JSON list of words"),
    ],
)
def test_malformed_lists_are_refused(tmp_path: Path, content: object, message: str) -> None:
    path = tmp_path / "words.json"
    path.write_text(json.dumps(content))
    with pytest.raises(UserError, match=message):
        Vocabulary.load(path)


def test_embeddings_of_the_same_words_load(tmp_path: Path) -> None:
    vocabulary = build_vocabulary(DOGS, 1)
    vectors_VE = torch.randn(len(vocabulary), 3)
    save_word_embeddings(tmp_path / "e.safetensors", vocabulary, vectors_VE)
    assert torch.equal(load_word_embeddings(tmp_path / "e.safetensors", vocabulary), vectors_VE)


def test_too_few_embeddings_are_refused_with_both_numbers(tmp_path: Path) -> None:
    vocabulary = build_vocabulary(DOGS, 2)
    save_word_embeddings(tmp_path / "e.safetensors", vocabulary, torch.zeros(7, 3))
    with pytest.raises(UserError, match="holds 7 word vectors, but the word list has 9 words"):
        load_word_embeddings(tmp_path / "e.safetensors", build_vocabulary(DOGS, 1))


def test_embeddings_in_another_order_are_refused(tmp_path: Path) -> None:
    save_word_embeddings(tmp_path / "e.safetensors", Vocabulary([*SPECIALS, "a", "b"]), torch.zeros(6, 3))
    with pytest.raises(UserError, match="vectors of other words"):
        load_word_embeddings(tmp_path / "e.safetensors", Vocabulary([*SPECIALS, "b", "a"]))


def test_missing_and_damaged_embeddings(tmp_path: Path) -> None:
    vocabulary = build_vocabulary(DOGS, 1)
    with pytest.raises(UserError, match="does not exist"):
        load_word_embeddings(tmp_path / "e.safetensors", vocabulary)
    (tmp_path / "e.safetensors").write_bytes(b"not a tensor file")
    with pytest.raises(UserError, match="damaged"):
        load_word_embeddings(tmp_path / "e.safetensors", vocabulary)
