"""Captions that stop in the middle: a known fault of training on CIDEr-D without the end token."""

from fsgr_model.text.function_words import ARTICLES, CONJUNCTIONS, PREPOSITIONS
from fsgr_model.text.ptb_tokenizer import ptb_tokenize

BAD_ENDINGS = frozenset(f"{ARTICLES} {PREPOSITIONS} {CONJUNCTIONS}".split())


def ends_badly(caption: str) -> bool:
    """Whether the last word is an article, a preposition or a conjunction."""
    return any(word in BAD_ENDINGS for word in ptb_tokenize(caption)[-1:])
