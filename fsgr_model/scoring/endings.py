"""Captions that stop in the middle: "a dog on a"."""

from fsgr_model.text.function_words import ARTICLES, CONJUNCTIONS, PREPOSITIONS

# No caption ends with one of these.
BAD_ENDINGS = frozenset(f"{ARTICLES} {PREPOSITIONS} {CONJUNCTIONS}".split())
