"""Every wish of a beam search against all captions of a small vocabulary, and against a plain search."""

import itertools
import math
from collections.abc import Sequence

import pytest
import torch

from fsgr_model.inference.beam_search import Guidance, beam_search, diverse_beam_search
from fsgr_model.inference.must_occur import MustOccur
from fsgr_model.inference.rules import (
    Begin,
    MaxWords,
    MinWords,
    MustNot,
    NoRepeat,
    TargetWords,
)
from fsgr_model.text.vocabulary import EOS, PAD
from tests.inference.brute_force import (
    MAX_LENGTH,
    B,
    Caption,
    PlainSearch,
    V,
    body,
    contains,
    every_caption,
    log_probs,
    repeats,
    scaled,
    small_decoder,
    step_of,
    words_of,
)

X, Y, Z = 4, 5, 6
CPU = torch.device("cpu")
DECODER, START = small_decoder()
PLAIN = [PlainSearch(DECODER, START, b) for b in range(B)]
WIDE = len(every_caption())


def found(beam_size: int, guidance: Guidance, max_length: int = MAX_LENGTH) -> list[list[Caption]]:
    """The captions of each image, the best first, without places that are not filled."""
    with torch.no_grad():
        caption_BSL, _ = beam_search(
            step_of(DECODER), START, B, beam_size=beam_size, max_length=max_length, guidance=guidance
        )
    return [[caption for row in of_image if (caption := words_of(row))] for of_image in caption_BSL]


def must(*phrases: Caption, most_words: int = MAX_LENGTH) -> MustOccur:
    return MustOccur(phrases, num_words=V, most_words=most_words, device=CPU)


def best_of_all(allowed, rank=lambda score, caption: score) -> list[list[Caption]]:
    """All captions that are allowed, by rank, of each image."""
    captions = [caption for caption in every_caption() if allowed(caption)]
    score_BS = log_probs(DECODER, START, captions).sum(dim=-1).tolist()
    return [
        [
            caption
            for _, caption in sorted(
                zip(map(rank, scores, captions), captions, strict=True), key=lambda pair: -pair[0]
            )
        ]
        for scores in score_BS
    ]


WISHES = {
    "at least 3 words": (
        Guidance([MinWords(3)]),
        lambda caption: len(body(caption)) >= 3,
    ),
    "at most 2 words": (Guidance([MaxWords(2)]), lambda caption: len(body(caption)) <= 2),
    "2 or 3 words": (
        Guidance([MinWords(2), MaxWords(3)]),
        lambda caption: 2 <= len(body(caption)) <= 3,
    ),
    "no word twice": (Guidance([NoRepeat(1)]), lambda caption: not repeats(caption, 1)),
    "no two words twice": (Guidance([NoRepeat(2)]), lambda caption: not repeats(caption, 2)),
    "without y": (Guidance([MustNot([(Y,)])]), lambda caption: Y not in caption),
    "without x, y z, z z y": (
        Guidance([MustNot([(Y, Z), (X,), (Z, Z, Y)])]),
        lambda caption: not any(contains(caption, phrase) for phrase in [(X,), (Y, Z), (Z, Z, Y)]),
    ),
    "z y first": (Guidance([Begin((Z, Y))]), lambda caption: caption[:2] == (Z, Y)),
    "with z": (Guidance(must=must((Z,))), lambda caption: Z in caption),
    "with z y and x": (
        Guidance(must=must((Z, Y), (X,))),
        lambda caption: contains(caption, (Z, Y)) and X in caption,
    ),
    "with x x y and x y, which overlap": (
        Guidance(must=must((X, X, Y), (X, Y))),
        lambda caption: contains(caption, (X, X, Y)),
    ),
    "with x y, y x and x y z, in no more room than overlaps leave": (
        Guidance(must=must((X, Y), (Y, X), (X, Y, Z))),
        lambda caption: all(contains(caption, phrase) for phrase in [(X, Y), (Y, X), (X, Y, Z)]),
    ),
    "all at once": (
        Guidance(
            [Begin((Z,)), MustNot([(Y, Y)]), NoRepeat(2), MinWords(3), MaxWords(4)],
            must((X, Y), most_words=4),
        ),
        lambda caption: (
            caption[0] == Z
            and contains(caption, (X, Y))
            and not contains(caption, (Y, Y))
            and not repeats(caption, 2)
            and 3 <= len(body(caption)) <= 4
        ),
    ),
}


@pytest.mark.parametrize("wish", WISHES)
def test_a_wide_beam_finds_all_captions_of_a_wish_in_their_order(wish: str) -> None:
    guidance, allowed = WISHES[wish]
    expected = best_of_all(allowed)
    assert 0 < len(expected[0]) < WIDE
    assert found(WIDE, guidance) == expected


@pytest.mark.parametrize("wish", WISHES)
@pytest.mark.parametrize("beam_size", [1, 2])
def test_a_narrow_beam_finds_nothing_else(wish: str, beam_size: int) -> None:
    guidance, allowed = WISHES[wish]
    for of_image in found(beam_size, guidance):
        assert len(of_image) <= beam_size and all(map(allowed, of_image))
        assert of_image or "overlaps" in wish, "only what barely fits may be missed"


@pytest.mark.parametrize("penalty", [-1.0, 0.7, 3.0])
def test_a_length_penalty_ranks_as_its_formula_does(penalty: float) -> None:
    expected = best_of_all(lambda caption: True, lambda score, caption: scaled(score, len(caption), penalty))
    assert found(WIDE, Guidance(penalty=penalty)) == expected
    for beam_size in (1, 2, 4):
        plain = [PLAIN[b].search(beam_size, penalty=penalty) for b in range(B)]
        assert found(beam_size, Guidance(penalty=penalty)) == plain


def test_a_length_penalty_makes_captions_longer_and_its_opposite_shorter() -> None:
    words = [
        sum(len(body(of_image[0])) for of_image in found(WIDE, Guidance(penalty=penalty)))
        for penalty in (-2.0, 0.0, 2.0)
    ]
    assert words == sorted(words) and words[0] < words[-1]


@pytest.mark.parametrize("target", [1, 2, 4])
def test_every_word_from_the_target_costs_the_same(target: int) -> None:
    captions = every_caption()
    score_BS = log_probs(DECODER, START, captions).sum(dim=-1).tolist()
    for of_image, scores in zip(
        found(WIDE, Guidance([TargetWords(target, cost=0.7)])), score_BS, strict=True
    ):
        rank = {
            caption: score - 0.7 * abs(len(body(caption)) - target)
            for caption, score in zip(captions, scores, strict=True)
        }
        assert set(of_image) == set(captions)
        assert [rank[caption] for caption in of_image] == pytest.approx(
            sorted(rank.values(), reverse=True), abs=1e-4
        )


def words_met(phrases: list[Caption], caption: Caption) -> int:
    """Of each phrase that is contained all words, else those with which the caption ends; counted anew."""
    return sum(
        len(phrase)
        if contains(caption, phrase)
        else max(n for n in range(len(phrase)) if not n or caption[-n:] == phrase[:n])
        for phrase in phrases
    )


def fewest_more(caption: Caption, phrases: Sequence[Caption]) -> int:
    """How many words must follow until all phrases have occurred, found by trying all."""
    return next(
        count
        for count in itertools.count()
        for more in itertools.product((X, Y, Z), repeat=count)
        if all(contains((*caption, *more), phrase) for phrase in phrases)
    )


FITTING = [
    [(X, Y), (X, Z)],
    [(X, X), (Y, X), (Z,)],
    [(X, X, Y), (X, Y), (Z,)],
    [(X, Y), (Y, X), (X, Y, Z)],
    [(X, X, X), (X, X)],
    [(Y, Z, Y), (Y, X)],
]


@pytest.mark.parametrize("phrases", FITTING)
def test_words_that_are_missing_are_never_counted_too_high(phrases: list[Caption]) -> None:
    rule = must(*phrases)
    for length in range(5):
        for caption in itertools.product((X, Y, Z), repeat=length):
            states = [torch.tensor(words_met([phrase], caption), dtype=torch.int16) for phrase in phrases]
            counted, fewest = int(rule.words_missing(states)), fewest_more(caption, phrases)
            assert counted <= fewest and (counted == 0) == (fewest == 0)
            # Without overlaps there is nothing to save.
            assert counted == fewest or any(rule.shared)


def test_phrases_that_barely_fit_are_found_by_the_narrowest_beam() -> None:
    for phrases in ([(Z, Y), (X, X, Z)], [(X, Y), (X, Z)], [(Z,), (Y,), (X,)]):
        words = sum(map(len, phrases))
        guidance = Guidance([MaxWords(words)], must(*phrases, most_words=words))
        for of_image in found(1, guidance):
            assert of_image and all(contains(of_image[0], phrase) for phrase in phrases)


@pytest.mark.parametrize("phrases", [[(Z,)], [(X, Y)], [(Z, Z, Y), (X,)]])
@pytest.mark.parametrize("beam_size", [1, 2, 3])
def test_places_of_the_beam_are_dealt_to_the_banks_in_turn(phrases: list[Caption], beam_size: int) -> None:
    def allowed(caption: Caption) -> bool:
        missing = [len(phrase) - words_met([phrase], caption) for phrase in phrases]
        if EOS in caption:
            return not any(missing)
        return fewest_more(caption, phrases) <= MAX_LENGTH - len(caption)

    places = beam_size * (1 + sum(map(len, phrases)))
    for b, of_image in enumerate(found(beam_size, Guidance(must=must(*phrases)))):
        plain = PLAIN[b].search(places, allowed, bank=lambda caption: words_met(phrases, caption))
        assert of_image == plain[:beam_size]


@pytest.mark.parametrize("groups", [2, 3])
@pytest.mark.parametrize("strength", [0.3, 1.0, 50.0])
def test_groups_one_after_the_other_are_those_side_by_side(groups: int, strength: float) -> None:
    for size in (1, 3):
        with torch.no_grad():
            caption_BSL, _ = diverse_beam_search(
                step_of(DECODER),
                START,
                B,
                groups=groups,
                beam_size=groups * size,
                strength=strength,
                max_length=MAX_LENGTH,
            )
        for b in range(B):
            plain = PLAIN[b].groups(groups, size, strength)
            in_turn = [caption for best in zip(*plain, strict=True) for caption in best]
            assert [words_of(row) for row in caption_BSL[b]] == in_turn


def test_groups_differ_more_than_one_beam() -> None:
    with torch.no_grad():
        caption_BSL, _ = diverse_beam_search(
            step_of(DECODER), START, B, groups=3, beam_size=3, strength=50.0, max_length=MAX_LENGTH
        )
    # With such a strength the first words differ, of which there are three and the end.
    assert all(len(set(first.tolist())) == 3 for first in caption_BSL[..., 0])


def test_a_wish_that_no_caption_fulfils_leaves_nothing() -> None:
    nothing = [[] for _ in range(B)]
    assert found(3, Guidance([NoRepeat(1), MinWords(4)])) == nothing
    assert found(3, Guidance(must=must((X, X), (Y, Y), (Z, Z)))) == nothing
    assert found(3, Guidance([MustNot([(X,), (Y,), (Z,), (EOS,)])])) == nothing


def test_images_of_a_batch_do_not_mix_and_leave_when_they_have_ended() -> None:
    for name in ("no two words twice", "z y first", "with z y and x"):
        guidance = WISHES[name][0]
        together = found(2, guidance)
        for b in range(B):
            layers = tuple(
                type(layer)(layer.image_keys[b : b + 1], layer.image_values[b : b + 1])
                for layer in START.layers
            )
            with torch.no_grad():
                alone, _ = beam_search(
                    step_of(DECODER),
                    type(START)(layers),
                    1,
                    beam_size=2,
                    max_length=MAX_LENGTH,
                    guidance=guidance,
                )
            assert [caption for row in alone[0] if (caption := words_of(row))] == together[b], name


def test_what_is_forbidden_keeps_no_image_in_the_batch() -> None:
    steps = 0

    def step(word_BS, state):
        nonlocal steps
        steps += 1
        return step_of(DECODER)(word_BS, state)

    with torch.no_grad():
        guidance = Guidance([Begin((X, Y)), MaxWords(2)])
        caption_BSL, _ = beam_search(step, START, B, beam_size=6, max_length=MAX_LENGTH, guidance=guidance)
    assert steps == 3 and caption_BSL[:, 0].tolist() == [[X, Y, EOS]] * B


def test_nothing_but_pad_follows_where_there_are_fewer_captions_than_places() -> None:
    with torch.no_grad():
        caption_BSL, score_BS = beam_search(
            step_of(DECODER), START, B, beam_size=9, max_length=3, guidance=Guidance([Begin((X, Y))])
        )
    expected = {(X, Y, word) for word in (EOS, X, Y, Z)}
    for captions, scores in zip(caption_BSL.tolist(), score_BS.tolist(), strict=True):
        assert set(map(tuple, captions[:4])) == expected and captions[4:] == [[PAD] * 3] * 5
        assert [score > -math.inf for score in scores] == [True] * 4 + [False] * 5


@pytest.mark.parametrize("phrase", [p for n in (1, 2, 3) for p in itertools.product((X, Y), repeat=n)])
def test_the_automaton_knows_which_captions_contain_a_phrase(phrase: Caption) -> None:
    bodies = [caption for caption in every_caption() if EOS not in caption]
    (state_BS,) = must(phrase)._states(torch.tensor([bodies]))
    assert (state_BS[0] == len(phrase)).tolist() == [contains(caption, phrase) for caption in bodies]
