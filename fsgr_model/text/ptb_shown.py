"""How the Penn Treebank tokenizer writes a token: from the matched text in lower case to the output."""

import re

_BRACKETS = {"(": "-lrb-", ")": "-rrb-", "[": "-lsb-", "]": "-rsb-", "{": "-lcb-", "}": "-rcb-"}
_BRACKETS |= {"&lt;": "<", "&gt;": ">"}
_QUOTES = str.maketrans(
    dict.fromkeys("\x91\u2018\u201b\u2039", "`")
    | dict.fromkeys("\x92\u2019\u203a", "'")
    | dict.fromkeys("\x93\u201c\xab", "``")
    | dict.fromkeys("\x94\u201d\xbb", "''")
)
_AMPERSAND = re.compile("(?i:&amp;)")
_FRACTIONS = {"\xbc": "1/4", "\xbd": "1/2", "\xbe": "3/4", "\u2153": "1/3", "\u2154": "2/3"}
_CURRENCIES = {"\xa2": "cents", "\xa3": "#"} | dict.fromkeys("\x80\xa4\u20a0\u20ac", "$")


def nothing(token: str) -> str:
    return ""


def without_soft_hyphens(token: str) -> str:
    return token.replace("\xad", "") or "-"


def no_break_spaces(token: str) -> str:
    return token.replace(" ", "\xa0")


def ampersand(token: str) -> str:
    return _AMPERSAND.sub("&", token)


def bracket(token: str) -> str:
    return _BRACKETS.get(token.lower(), token)


def face(token: str) -> str:
    return token.replace("(", "-lrb-").replace(")", "-rrb-")


def phone(token: str) -> str:
    return face(no_break_spaces(token))


def quotes(token: str) -> str:
    return token.replace("&apos;", "'").replace("&quot;", "''").replace('"', "''").translate(_QUOTES)


def fraction(token: str) -> str:
    return _FRACTIONS.get(token, token)


def currency(token: str) -> str:
    return _CURRENCIES.get(token, token)


def dash(token: str) -> str:
    return token if set(token) == {"-"} and len(token) > 4 else "--"


def dots(token: str) -> str:
    return "..."
