"""How the Penn Treebank tokenizer writes a token: from the matched text to the output, before lower case."""

import re

_BRACKETS = {"(": "-lrb-", ")": "-rrb-", "[": "-lsb-", "]": "-rsb-", "{": "-lcb-", "}": "-rcb-"}
_BRACKETS |= {"&lt;": "<", "&gt;": ">"}
_QUOTES = str.maketrans(
    dict.fromkeys("\x91\u2018\u201b\u2039", "`")
    | dict.fromkeys("\x92\u2019\u203a", "'")
    | dict.fromkeys("\x93\u201c\xab", "``")
    | dict.fromkeys('\x94\u201d\xbb"', "''")
)
_WHITE_SPACE = re.compile("[ \t\r\x0b\x0c]")
_AMPERSAND = re.compile("(?i:&amp;)")
_FRACTIONS = {"\xbc": "1/4", "\xbd": "1/2", "\xbe": "3/4", "\u2153": "1/3", "\u2154": "2/3"}
_CURRENCIES = {"\xa2": "cents", "\xa3": "#"} | dict.fromkeys("\x80\xa4\u20a0\u20ac", "$")


def nothing(token: str) -> str:
    """White space is no token."""
    return ""


def without_soft_hyphens(token: str) -> str:
    """Soft hyphens are places where a line may break, not letters; alone they are a hyphen."""
    return token.replace("\xad", "") or "-"


def no_break_spaces(token: str) -> str:
    """White space inside a token would cut it in two in the output."""
    return _WHITE_SPACE.sub("\xa0", token)


def ampersand(token: str) -> str:
    """The entity `&amp;` as the character."""
    return _AMPERSAND.sub("&", token)


def bracket(token: str) -> str:
    """A bracket by its name in the treebank, `<` and `>` as they are."""
    return _BRACKETS.get(token.lower(), token)


def round_brackets(token: str) -> str:
    """The round brackets in a smiley by their names."""
    return token.replace("(", "-lrb-").replace(")", "-rrb-")


def phone(token: str) -> str:
    """A telephone number, in one piece."""
    return round_brackets(no_break_spaces(token))


def quotes(token: str) -> str:
    """LaTeX's quotation marks and straight apostrophes."""
    return token.replace("&apos;", "'").replace("&quot;", "''").translate(_QUOTES)


def fraction(token: str) -> str:
    """The commoner fractions in digits."""
    return _FRACTIONS.get(token, token)


def currency(token: str) -> str:
    """Signs that the treebank of 1992 lacks, by those that it has."""
    return _CURRENCIES.get(token, token)


def dash(token: str) -> str:
    """Dashes of any kind are `--`, a line of five hyphens or more is itself."""
    return token if set(token) == {"-"} and len(token) != 3 and len(token) != 4 else "--"


def dots(token: str) -> str:
    """An ellipsis of any kind."""
    return "..."
