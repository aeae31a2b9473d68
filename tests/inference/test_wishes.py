"""From parameters and a word list to rules; what cannot be is refused with its reason."""

from typing import Any

import pytest
import torch

from fsgr_model.config.decode_params import DecodeParams, captions_asked, changed, one_way
from fsgr_model.inference.rules import (
    Begin,
    MaxWords,
    MinWords,
    MustNot,
    NoRepeat,
    TargetWords,
    Temperature,
    TopK,
    TopP,
)
from fsgr_model.inference.wishes import understand
from fsgr_model.runtime.errors import UserError
from fsgr_model.text.vocabulary import SPECIALS, Vocabulary

PLAIN = DecodeParams(beam_size=6, max_length=12)
WORDS = Vocabulary([*SPECIALS, "a", "dog", "runs", "red", "ball", "dog's"])
A, DOG, RUNS, RED, BALL = range(4, 9)


def asked(**wishes: Any):
    """Dotted names, with two low lines for each full stop."""
    decode = changed(PLAIN, {name.replace("__", "."): value for name, value in wishes.items()})
    return understand(decode, WORDS, torch.device("cpu"))


def test_nothing_is_asked_by_default() -> None:
    guidance = asked()
    assert not guidance.rules and guidance.must is None and not guidance.penalty
    assert not asked(length={}, words={}).rules


def test_wishes_are_rules_in_words_of_the_list() -> None:
    guidance = asked(
        words__begin="A Red",
        words__must=["dog", "ball", "Dog!"],
        words__must_not=["runs", "zebra", "a zebra", "red a"],
        words__no_repeat=2,
        length__min_words=3,
        length__max_words=7,
        length__target_words=5,
        length__penalty=0.7,
    )
    assert guidance.rules == [
        Begin((A, RED)),
        MustNot([(RUNS,), (RED, A)]),
        NoRepeat(2),
        MinWords(3),
        MaxWords(7),
        TargetWords(5),
    ]
    assert guidance.must is not None and guidance.must.num_banks == 3 and guidance.must.most_words == 7
    assert guidance.penalty == 0.7


def test_draws_change_probabilities_after_wishes_have_forbidden_words() -> None:
    wishes = {"sampling__samples": 2, "sampling__temperature": 0.5, "sampling__top_k": 3}
    guidance = asked(**wishes, sampling__top_p=0.9, length__min_words=2)
    assert guidance.rules == [MinWords(2), Temperature(0.5), TopK(3), TopP(0.9)]
    assert not asked(sampling__samples=2).rules


@pytest.mark.parametrize(
    ("wishes", "reason"),
    [
        ({"words__must": ["dgo"]}, "must: 'dgo' is not among the model's 10 words (near: dog"),
        ({"words__must": ["dog", " ! "]}, "must: ' ! ' holds no word"),
        ({"words__must_not": [""]}, "must_not: '' holds no word"),
        ({"words__begin": "a zebra"}, "begin: 'zebra' is not among the model's 10 words"),
        ({"words__begin": "<pad>"}, "is not among the model's 10 words"),
        ({"words__must": ["red ball"], "words__must_not": ["ball"]}, "'red ball' contains 'ball', which is"),
        ({"words__begin": "a red", "words__must_not": ["a red"]}, "begin: 'a red' contains 'a red'"),
        ({"words__must": ["dog a dog"], "words__no_repeat": 1}, "'dog a dog' repeats 1 words"),
        ({"words__begin": "a dog runs", "length__max_words": 2}, "has 3 words, but captions have at most 2"),
        ({"words__must": ["a dog runs"], "max_length": 2}, "has 3 words, but captions have at most 2"),
        (
            {"words__must": ["a dog", "red ball", "dog runs"], "length__max_words": 4},
            "must: the phrases have at least 5 words together, but captions have at most 4 (decode.length",
        ),
        ({"length__min_words": 12}, "min_words 12 and the end token need more than max_length 12"),
        ({"length__min_words": 5, "length__max_words": 4}, "max_words 4 is below min_words 5"),
        ({"groups__count": 4}, "beam_size 6 cannot be divided among 4 groups; set it to a multiple of 4"),
        ({"groups__count": 3, "sampling__samples": 3}, "captions are searched or drawn"),
        ({"words__must": ["dog"], "sampling__samples": 3}, "a draw cannot plan ahead"),
        ({"length__penalty": 1, "sampling__samples": 3}, "has no part in draws"),
        ({"sampling__temperature": 0.5}, "decode.sampling.samples: missing"),
        ({"sampling__samples": 3, "sampling__top_p": 1.5}, "decode.sampling.top_p: Input should be less"),
        ({"words__musst": ["dog"]}, "decode.words.musst: unknown parameter"),
    ],
)
def test_what_cannot_be_is_refused_with_its_reason(wishes: dict[str, Any], reason: str) -> None:
    with pytest.raises(UserError) as caught:
        asked(**wishes)
    assert reason in str(caught.value)


def test_how_many_captions_are_asked_for() -> None:
    groups = changed(PLAIN, {"groups.count": 3})
    samples = changed(groups, one_way(None, samples=8))
    consensus = changed(samples, {"sampling.consensus": True})
    assert [captions_asked(each, None) for each in (PLAIN, groups, samples, consensus)] == [1, 3, 8, 1]
    assert [captions_asked(each, 6) for each in (PLAIN, groups, consensus)] == [6, 6, 6]
    assert changed(samples, one_way(2, None)) == PLAIN.model_copy(update={"beam_size": 2})
    for each, number, reason in (
        (PLAIN, 7, "the 7 best captions cannot be given: 6 hypotheses are kept"),
        (PLAIN, 0, "ask for 1 to 6"),
        (consensus, 9, "8 samples are drawn"),
        (samples, 2, "nothing else orders them"),
    ):
        with pytest.raises(UserError, match=reason):
            captions_asked(each, number)


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("lenght.min_words", 8, "decode.lenght: unknown parameter; check its spelling"),
        ("beam_sise", 8, "decode.beam_sise: unknown parameter"),
        ("beam_size.x", 8, "decode.beam_size.x: beam_size has no parameters of its own"),
        ("length.min_words.x", 8, "decode.length.min_words.x: min_words has no parameters of its own"),
        ("words.must", "dog", r"decode.words.must: .* \(found 'dog'\)"),
        ("sampling.top_k", 3, "decode.sampling.samples: missing; give it as well"),
        ("", 3, "decode.: unknown parameter"),
    ],
)
def test_a_name_that_is_no_parameter_is_refused(name: str, value: Any, told: str) -> None:
    """`fsgr_model.load(folder, decode={...})` takes what a user wrote."""
    length = {"min_words": 3}
    decode = DecodeParams.model_validate({"beam_size": 3, "max_length": 9, "length": length})
    with pytest.raises(UserError, match=told):
        changed(decode, {name: value})
