"""Penn Treebank tokens as the COCO caption metrics count them, without Java.

The official metrics tokenize with Stanford's PTBTokenizer (CoreNLP 3.4.1, `-preserveLines -lowerCase`) and
then drop a list of punctuation marks. That program takes the longest match of its rules, the earlier rule on
a tie. This module works the same way, with the rules of `ptb_rules` and the characters of `ptb_characters`.

One difference is meant: in the official batch, a caption that ends in a lone letter ("and 12th Ave S.") keeps
or loses that full stop depending on the caption that happens to come next; here no caption sees another.
"""

import re

from fsgr_model.text.ptb_rules import RULES, WORDS_WITH_RULES

PUNCTUATION = frozenset(["''", "'", "``", "`", ".", "?", "!", ",", ":", "-", "--", "...", ";"])

# Every rule is tried at one place by one match: group 2n+1 is what rule n takes with what has to follow, and
# group 2n+2 the token in it.
_ALL_RULES = re.compile("".join(rf"(?:(?=(({rule.token})(?:{rule.follow})))|)" for rule in RULES))
# Most of a caption needs no rules: a word before white space or a sentence's mark, and these, which are dropped.
_PLAIN_WORD = re.compile(r"([A-Za-z]{2,})(?=[ \n]|[.,][ \n])|a(?= )")
_DROPPED = re.compile(r"(?:[,.]?(?:\n| +(?![.\t\xa0\u2000-\u200a\u3000])))+")


def ptb_tokenize(text: str) -> list[str]:
    """Lower-cased Penn Treebank tokens without punctuation, as pycocoevalcap's `PTBTokenizer` returns them.

    A token may hold a no-break space (`1\xa01/2`), as the official one does. Brackets stay, as `-lrb-`.
    """
    line = text.replace("\n", " ") + "\n\n"
    tokens: list[str] = []
    position = 0
    while position < len(line):
        if dropped := _DROPPED.match(line, position):
            position = dropped.end()
            continue
        plain = _PLAIN_WORD.match(line, position)
        if plain and (token := plain.group().lower()) not in WORDS_WITH_RULES:
            position = plain.end()
        else:
            position, token = _longest_match(line, position)
        tokens.append(token)
    if line.rstrip(" \n")[-1:].isspace() and tokens:
        tokens[-1] = tokens[-1].rstrip()  # as pycocoevalcap strips each line
    return [token for token in tokens if token and token not in PUNCTUATION]


def _longest_match(line: str, position: int) -> tuple[int, str]:
    """Where the token at `position` ends, and the token: that of the rule which reaches farthest.

    A character that no rule takes (emoji, control characters) is passed over: its token is empty.
    """
    match = _ALL_RULES.match(line, position)
    assert match is not None, "every rule is optional"
    reaches = [end for _, end in match.regs[1::2]]
    farthest = max(reaches)
    if farthest <= position:
        return position + 1, ""
    rule = reaches.index(farthest)
    start, end = match.regs[2 * rule + 2]
    return end, RULES[rule].shown(line[start:end]).lower()
