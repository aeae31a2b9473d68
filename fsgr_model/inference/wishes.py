"""From `decode` and a word list to what the search does. What cannot be is refused with its reason."""

from collections.abc import Callable, Collection, Iterator, Sequence
from difflib import get_close_matches
from typing import TypeVar

import torch

from fsgr_model.config.decode_params import DecodeParams, SamplingParams, WordsParams
from fsgr_model.inference.beam_search import Guidance
from fsgr_model.inference.decoding import Rule
from fsgr_model.inference.must_occur import MustOccur
from fsgr_model.inference.rules import (
    Begin,
    MaxWords,
    MinWords,
    MustNot,
    NoRepeat,
    Phrase,
    TargetWords,
    Temperature,
    TopK,
    TopP,
)
from fsgr_model.runtime.errors import UserError
from fsgr_model.text.segmenters import segment
from fsgr_model.text.vocabulary import SPECIALS, Vocabulary

NO_WORDS = WordsParams()
T = TypeVar("T")
R = TypeVar("R")


def understand(decode: DecodeParams, vocabulary: Vocabulary, device: torch.device) -> Guidance:
    """What is asked of captions, in words of the list.

    Raises:
        UserError: a word that must occur is not in the list, or no caption can fulfil all wishes.
    """
    words = decode.words or NO_WORDS
    begin = _phrase(words.begin, "begin", vocabulary) if words.begin else ()
    must = list(dict.fromkeys(_phrase(text, "must", vocabulary) for text in words.must))
    forbidden = list(_forbidden(words.must_not, vocabulary))
    for name, asked in (("begin", [begin]), ("must", must)):
        for phrase in asked:
            _check(phrase, name, decode=decode, vocabulary=vocabulary, forbidden=forbidden)
    rules = [*_rules_of_words(begin, forbidden, words.no_repeat), *_rules_of_length(decode)]
    if decode.sampling:
        rules += _rules_of_draws(decode.sampling)
    return Guidance(
        rules=rules,
        must=_must_occur(must, decode, len(vocabulary), device) if must else None,
        penalty=decode.length.penalty if decode.length else 0.0,
    )


def _must_occur(
    phrases: Sequence[Phrase], decode: DecodeParams, num_words: int, device: torch.device
) -> MustOccur:
    """Of phrases that can be said together.

    Raises:
        UserError: they need more words than a caption has.
    """
    must = MustOccur(phrases, num_words=num_words, most_words=decode.most_words, device=device)
    if must.fewest_words > decode.most_words:
        raise UserError(
            f"decode.words.must: the phrases have at least {must.fewest_words} words together, but captions "
            f"have at most {decode.most_words} (decode.length.max_words, decode.max_length)"
        )
    return must


class Unfulfilled(UserError):
    """Some images, named by `what`, have no caption; `places` are theirs among those asked for."""

    def __init__(self, what: str, places: Collection[int] = (0,)) -> None:
        super().__init__(
            f"no caption of {what} fulfils all wishes of decode.length and decode.words (--must, --must-not, "
            "--begin, --no-repeat, --min-words, --max-words); ask for less, or give more words or a larger "
            "beam"
        )
        self.places = frozenset(places)


def for_each(describe: Callable[[list[T]], Sequence[R]], images: Sequence[T]) -> list[R | None]:
    """What `describe` makes of each image; None where no caption fulfils the wishes.

    One image without a caption ends a batch, so the others are described once more, without it.
    """
    if not images:
        return []
    try:
        return list(describe(list(images)))
    except Unfulfilled as lack:
        others = [place for place in range(len(images)) if place not in lack.places]
        rest = for_each(describe, [images[place] for place in others])
        found = dict(zip(others, rest, strict=True))
        return [found.get(place) for place in range(len(images))]


def _rules_of_words(begin: Phrase, forbidden: list[Phrase], no_repeat: int | None) -> Iterator[Rule]:
    if begin:
        yield Begin(begin)
    if forbidden:
        yield MustNot(forbidden)
    if no_repeat is not None:
        yield NoRepeat(no_repeat)


def _rules_of_length(decode: DecodeParams) -> Iterator[Rule]:
    length = decode.length
    if length is None:
        return
    if length.min_words:
        yield MinWords(length.min_words)
    if length.max_words is not None:
        yield MaxWords(length.max_words)
    if length.target_words is not None:
        yield TargetWords(length.target_words)


def _rules_of_draws(sampling: SamplingParams) -> Iterator[Rule]:
    if sampling.temperature != 1:
        yield Temperature(sampling.temperature)
    if sampling.top_k is not None:
        yield TopK(sampling.top_k)
    if sampling.top_p is not None:
        yield TopP(sampling.top_p)


def _phrase(text: str, name: str, vocabulary: Vocabulary) -> Phrase:
    """The ids of the words of a text.

    Raises:
        UserError: it has no words, or one that is not in the list.
    """
    tokens = segment(text, vocabulary.segmenter)
    if not tokens:
        raise UserError(f"decode.words.{name}: {text!r} holds no word; leave it out")
    for token in tokens:
        if token not in vocabulary or token in SPECIALS:
            near = get_close_matches(token, vocabulary.words[len(SPECIALS) :], n=3)
            meant = f" (near: {', '.join(near)})" if near else ""
            raise UserError(
                f"decode.words.{name}: {token!r} is not among the model's {len(vocabulary)} words{meant}; "
                "it can never be said, so take another"
            )
    return tuple(vocabulary.encode(tokens, len(tokens))[1:-1])


def _forbidden(texts: Sequence[str], vocabulary: Vocabulary) -> Iterator[Phrase]:
    """The phrases that could be said; those with a word that is not in the list never are."""
    for text in texts:
        tokens = segment(text, vocabulary.segmenter)
        if not tokens:
            raise UserError(f"decode.words.must_not: {text!r} holds no word; leave it out")
        if all(token in vocabulary for token in tokens):
            yield tuple(vocabulary.encode(tokens, len(tokens))[1:-1])


def _check(
    phrase: Phrase, name: str, *, decode: DecodeParams, vocabulary: Vocabulary, forbidden: list[Phrase]
) -> None:
    """A phrase that captions have must be allowed, and fit.

    Raises:
        UserError: it contains what must not occur, repeats what must not be repeated, or is too long.
    """
    shown = repr(" ".join(vocabulary.words[word] for word in phrase))
    if len(phrase) > decode.most_words:
        raise UserError(
            f"decode.words.{name}: {shown} has {len(phrase)} words, but captions have at most "
            f"{decode.most_words} (decode.length.max_words, decode.max_length)"
        )
    for other in forbidden:
        if any(phrase[start : start + len(other)] == other for start in range(len(phrase))):
            told = " ".join(vocabulary.words[word] for word in other)
            raise UserError(f"decode.words.{name}: {shown} contains {told!r}, which is in must_not")
    order = decode.words.no_repeat if decode.words else None
    if order is not None:
        ngrams = [phrase[start : start + order] for start in range(len(phrase) - order + 1)]
        if len(set(ngrams)) < len(ngrams):
            raise UserError(f"decode.words.{name}: {shown} repeats {order} words, and no_repeat is {order}")
