"""Captions that stop in the middle: a known fault of training on CIDEr-D without the end token."""

from collections.abc import Iterable

from fsgr_model.text.function_words import ARTICLES, CONJUNCTIONS, PREPOSITIONS
from fsgr_model.text.ptb_tokenizer import ptb_tokenize

BAD_ENDINGS = frozenset(f"{ARTICLES} {PREPOSITIONS} {CONJUNCTIONS}".split())


def bad_ending_share(captions: Iterable[str]) -> float:
    """Share of captions whose last word is an article, a preposition or a conjunction; 0.0 to 1.0.

    Raises:
        ValueError: there is no caption.
    """
    last_words = [ptb_tokenize(caption)[-1:] for caption in captions]
    if not last_words:
        raise ValueError("no captions to look at")
    return sum(bool(word) and word[0] in BAD_ENDINGS for word in last_words) / len(last_words)
