"""Kinds of characters, as Stanford's PTBTokenizer tells them apart.

Its rules never depend on a particular letter of Tamil or Greek, only on the kind of a character. So each
character of a text is first replaced by the sign of its kind, and the tokenizer's rules read the result.

The kinds were found by setting every character of the Basic Multilingual Plane into 12 places (`a?b`, `1?2`,
`#?b`, ...), all but most of Han and Hangul into 133 more, and grouping them by the program's output. They
follow Unicode's categories where nothing below says otherwise: the program's tables are older than Python's,
and it has its own lists of marks and symbols.
"""

import unicodedata

LETTER, MARK, DIGIT, SYMBOL, RAISED, NOTHING = "λ", "\u0301", "٣", "§", "²", "\x00"
# A character that some rule names stands for itself and for all that are treated alike.
WIDE, NO_BREAK, SOFT_HYPHEN, HYPHEN = "\u3000", "\xa0", "\xad", "\u2010"
OPENING, CLOSING, QUOTE, DECIMAL, SLASH, COMMA = "\u2018", "\u2019", "\u201c", "\u066b", "\u2044", "\u3001"
_ALIKE = {
    " ": "\n\x0b\x0c\r\x1c\x1d\x1e\x85\u2028\u2029",
    "\t": "\t",
    WIDE: "".join(map(chr, range(0x2000, 0x200B))) + WIDE,
    NO_BREAK: NO_BREAK,
    SOFT_HYPHEN: SOFT_HYPHEN,
    HYPHEN: "\u058a\u2010\u2011",
    OPENING: "\x91\u2018\u201b",
    CLOSING: "\x92\u2019",
    QUOTE: "\x93\x94\xab\xbb\u201a\u201c\u201d\u201e\u201f\u2039\u203a",
    DECIMAL: "\u066b\u066c",
    SLASH: SLASH,
    COMMA: COMMA,
    RAISED: "\xb2\xb3\xb9\u2070\u2074\u2075\u2076\u2077\u2078\u2079"
    + "".join(map(chr, range(0x2080, 0x208A))),
    # The program treats these two marks as letters.
    LETTER: "\u1885\u1886",
}


def _numbers(ranges: str) -> frozenset[int]:
    """The code points of ranges, each written as its first and its last."""
    ends = [[int(end, 16) for end in each.split("-")] for each in ranges.split()]
    return frozenset(number for end in ends for number in range(end[0], end[-1] + 1))


# Letters and digits that are too new for the program, with the unassigned code points beside them, so that
# letters which a later Unicode puts there stay unknown.
_UNKNOWN = _numbers("""
    037f-0383 0528-0530 0560 0588 05eb-05ef 085f-088f 08a1 08ad-08c9 0978 0980 09fc 0af2-0af9 0c34
    0c5a-0c5f 0c80 0cd7-0cdd 0d04 0d50-0d5f 0de0-0df1 0e85-0e86 0e89 0e8b-0e8c 0e8e-0e93 0e98 0ea0
    0ea8-0ea9 0eac 13f5-13ff 16f1-16ff 170d 1716-171f 1878-187f 191d-191f 19ac-19c0 19c8-19cf 1b4c-1b4f
    1c80-1cbf 1cf2-1cf3 1cfa-1cff 2c2f 2c5f 312e-3130 31bb-31bf 4db6-4dbf 9fcd-9fff a698-a69d a78f
    a794-a79f a7ab-a7f7 a8fd-a8fe a9e0-a9ff aa7e-aa7f ab2f-abbf
""")
# Letters within these ranges are letters, the rest (combining marks above all) stays within a word.
_MARKS = _numbers("""
    02c2-0379 0384-0385 03f6 0483-0487 055a-055f 0591-05bd 05bf 05c1-05c2 05c4-05c5 05c7 0615-061a
    064b-065e 0670 06d6-06ed 06fd-06fe 070f-07b0 07eb-07f3 0900-0903 093c-094e 0951-0955 0962-0963
    0981-0983 09bc-09c4 09c7-09c8 09cb-09cd 09d7 09e2-09e3 0a01-0a03 0a3c 0a3e-0a4f 0a81-0a83 0abc-0acf
    0b82 0bbe-0bc2 0bc6-0bc8 0bca-0bcd 0c01-0c03 0c3e-0c56 0d3e-0d44 0d46-0d48 0e31-0e3a 0e47-0e4e
    0eb1-0ebc 0ec8-0ecd
""")
# Letters and digits within these ranges stay letters and digits, the rest are tokens of one character.
_SYMBOLS = _numbers("""
    0080 00a1-00a9 00ac 00ae-00b1 00b4-00b8 00bc-00f7 037e 0387 0589 05be 05c0 05c3 05c6 05f3-05f4
    0600-0603 0606-060c 0614 061b 061e-061f 066a 066d 06d4 0700-070d 07f6-07f8 0964-0965 0e3f 0e4f 1fbd
    2016-2017 2020-2023 2030-2038 203b 203e-2042 207a-207e 208a-208e 20a0 20a4 20ac 2100-214f 2153-215e
    2190-2bff 3002 3012 30fb ff01-ff65 ffe0-ffe1 ffe5-ffe6
""")


def is_known(number: int) -> bool:
    """Whether the program has this code point's letter or digit in its tables."""
    return number <= 0xFFFF and number not in _UNKNOWN


class _Kinds(dict[int, str]):
    """Code point -> kind, for `str.translate`; each is computed at its first use."""

    def __missing__(self, number: int) -> str:
        self[number] = kind = _kind(number)
        return kind


def _kind(number: int) -> str:
    if number > 0xFFFF:  # the program reads UTF-16 and knows no surrogate
        return NOTHING
    category = unicodedata.category(chr(number))
    if is_known(number) and (category[0] == "L" or category == "Nd"):
        return LETTER if category[0] == "L" else DIGIT
    if number in _MARKS:
        return MARK
    return SYMBOL if number in _SYMBOLS else NOTHING


_KINDS = _Kinds({number: chr(number) for number in range(0x20, 0x7F)})
_KINDS.update({ord(character): kind for kind, characters in _ALIKE.items() for character in characters})


def in_kinds(text: str) -> str:
    """The text with each character replaced by the sign of its kind; ASCII signs stand for themselves."""
    return text if text.isascii() and text.isprintable() else text.translate(_KINDS)
