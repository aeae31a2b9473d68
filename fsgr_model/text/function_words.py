"""English function words, and the phrases between them."""

from collections.abc import Sequence

ARTICLES = "a an the"
PREPOSITIONS = """
    about above across against along among around at atop before behind below beneath beside between beyond by
    during for from in inside into like near of on onto over past than through to toward towards under upon
    underneath via with within without
"""
CONJUNCTIONS = "and as because but if nor or since so that while"
PRONOUNS = """
    i you he she it we they me him her us them my your his its our their this these those who whom whose which
    what there here each other another some any all both
"""
AUXILIARIES = "am is are was were be been being has have had do does did can could will would may might must"
# Halves of prepositions ("in front of", "next to", "on top of"), negations and PTB's split endings.
PARTICLES = "front next top not no n't 's 're 've 'll 'd 'm"
FUNCTION_WORDS = frozenset(
    f"{ARTICLES} {PREPOSITIONS} {CONJUNCTIONS} {PRONOUNS} {AUXILIARIES} {PARTICLES}".split()
)


def phrase_of_words(words: Sequence[str]) -> list[int]:
    """The index of the phrase that each word belongs to, from 0; -1 for a function word.

    A phrase is a run of words without a function word ("a | small red car | on the | beach"), which needs no
    parser. If all words are function words, the whole caption is one phrase.
    """
    content = [word not in FUNCTION_WORDS for word in words]
    if not any(content):
        return [0] * len(words)
    numbers, current = [], -1
    for position, is_content in enumerate(content):
        current += is_content and (position == 0 or not content[position - 1])
        numbers.append(current if is_content else -1)
    return numbers
