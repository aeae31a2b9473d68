"""Captions that stop in the middle: a known fault of training on CIDEr-D without the end token."""

from fsgr_model.scoring.caption_tokens import tokens_of
from fsgr_model.text.function_words import ARTICLES, CONJUNCTIONS, PREPOSITIONS

BAD_ENDINGS = frozenset(f"{ARTICLES} {PREPOSITIONS} {CONJUNCTIONS}".split())


def ends_badly(caption: str) -> bool:
    """Whether the last word is an article, a preposition or a conjunction."""
    return any(word in BAD_ENDINGS for word in tokens_of(caption)[-1:])
