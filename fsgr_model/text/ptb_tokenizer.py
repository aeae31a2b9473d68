"""Penn Treebank tokens as the COCO caption metrics count them, without Java.

The official metrics tokenize with Stanford's PTBTokenizer (CoreNLP 3.4.1, `-preserveLines -lowerCase`) and
then drop a list of punctuation marks. That program takes the longest match of its rules, the earlier rule on
a tie. This module works the same way, with rules written from the Java program's observed output.

One difference is meant: in the official batch, a caption that ends in a lone letter ("and 12th Ave S.") keeps
or loses that full stop depending on the caption that happens to come next; here no caption sees another.
"""

import re

from fsgr_model.text.character_kinds import (
    CLOSING,
    DECIMAL,
    DIGIT,
    HYPHEN,
    LETTER,
    MARK,
    NO_BREAK,
    NOTHING,
    OPENING,
    QUOTE,
    RAISED,
    SLASH,
    SOFT_HYPHEN,
    SPACE,
    in_kinds,
)

PUNCTUATION = frozenset(["''", "'", "``", "`", ".", "?", "!", ",", ":", "-", "--", "...", ";"])

# Words that keep their full stop: in any case; only capitalised; only before a digit.
_ABBREVIATIONS = r"""
    [A-Z](?:\.[A-Z])* adj adm adv al ala alex apr ariz assn assoc asst atty attys aug ave bancorp bhd
    bldg blvd brig bros calif capt cf cie cmdr co col colo comdr conn corp cos cpl ct dak dec dept det dr
    drs elec ens esq est etc ext feb fla fri ft ga gen gov govs hon inc ind insp intl invt jan jos jr jul
    jun kan kans ky lieut lt ltd maj mar md messrs mfg mich minn mlle mme mo mon mont mr mrs ms msgr mt
    mtg natl neb nev nov oct okla penn pfc ph\.d ph plc ppte ppty pres prof profs pte ptes pty ptys pvt
    rd rep reps rev rt sen sens sep sept seq sfc sgt spc sq sr st ste supt supts sys tel tenn thu thurs
    treas tue tues univ va vs vt wed wis wisc wm wyo ed\.d
"""
_CAPITALISED = "Ark Az Del Ill La Mass Miss Ore Pa Tex Wash"
_BEFORE_DIGIT = "art ca fig figs no nos op pp prop"
# A lone letter's full stop ends the sentence where one of these words follows.
_SENTENCE_STARTS = """
    A About According After An As At But Earlier He Her Here If In It Last Many More Now Once One Other
    Our She Since So Some Such That The Their Then There These They This We What When While Yet You
"""


def _any_of(words: str) -> str:
    return "|".join(words.split())


# Kinds of characters within a rule's brackets; a letter proper, what a word may hold, a digit.
_P, _D = f"A-Za-z{LETTER}", f"0-9{DIGIT}"
_L = f"[{_P}{MARK}{SOFT_HYPHEN}]"
_LD = f"[{_P}{MARK}{SOFT_HYPHEN}{_D}]"
_PD = f"[{_P}{_D}]"
_HD = f"(?:[{_P}{_D}{SOFT_HYPHEN}])"
_N = f"[{_D}]"
_DS = f"[{_D}{SOFT_HYPHEN}]"
_APOSTROPHE = f"(?:['{CLOSING}]|&apos;)"
_ELISION = f"(?:['`{CLOSING}{OPENING}]|&apos;)"
_PIECE = rf"(?:[dDoOlL]{_ELISION}(?={_HD}))?{_HD}+"
_THING = rf"{_PIECE}(?:_{_PD}+)*"
_ACRONYM = r"[A-Za-z](?:\.[A-Za-z])+\."
_STATE = _any_of(_CAPITALISED + " " + _CAPITALISED.upper())
_DOTTED = rf"(?:(?i:{_any_of(_ABBREVIATIONS)})|{_STATE})\."
_START = _any_of(_SENTENCE_STARTS + _SENTENCE_STARTS.upper())
_SPACE = f"[ {NO_BREAK}]"
_BLANK = f"[ {NO_BREAK}{SPACE}]"
_DASH = f"[-{HYPHEN}]"
_URL = rf"[^ {SPACE}{NO_BREAK}\"<>|()]"
_NAME = "[A-Za-z0-9_]"
_ATTRIBUTE = rf"[A-Za-z][A-Za-z0-9_.:-]*(?:{_BLANK}*={_BLANK}*(?:\"[^\"]*\"|'[^']*'|[^ {SPACE}\"'<>]+))?"

# A token is group 1 where a rule has one (the rest only has to follow), else the whole match.
_RULES = [
    # words and their contractions
    rf"({_L}*(?![nN])[{_P}])[nN]{_ELISION}[tT]",
    rf"[nN]{_ELISION}[tT]",
    rf"({_LD}+){_APOSTROPHE}(?i:[msd]|re|ve|ll)(?!{_L})",
    rf"{_APOSTROPHE}(?i:[msd]|re|ve|ll)(?!{_L})",
    rf"{CLOSING}(?i:[msdn]|re|ve|ll)",
    rf"{_L}{_LD}*(?:[.!?]{_L}{_LD}*)*",
    rf"{_PD}+(?:_{_PD}+)*",
    rf"(?i:{_APOSTROPHE}(?:n{_APOSTROPHE}?|em|cause|til))(?!{_L}|-)",
    rf"{_APOSTROPHE}n{_APOSTROPHE}",
    r"(?i:'t(?:is|was))",
    rf"(?i:[ldj]|dunkin|somethin|ol){_APOSTROPHE}",
    rf"(?i:(?:cap{_APOSTROPHE}n|c{_APOSTROPHE}(?:mon|est)|s{_APOSTROPHE}mores|e{_APOSTROPHE}er))",
    rf"[A-HJ-XZdlno]{_ELISION}[{_P}]{{2,}}",
    rf"[dDlLoO]{_ELISION}{_PD}{{2,}}",
    rf"[{_P}]+[aeiouyAEIOUY]{_ELISION}[aeiouA-Z][{_P}]*",
    rf"([yY]{_APOSTROPHE})[{_P}]",
    # abbreviations and acronyms
    _DOTTED,
    rf"([A-Za-z])\.{_SPACE}+(?:{_START}){_BLANK}",
    rf"((?i:{_any_of(_BEFORE_DIGIT)})\.){_BLANK}?{_N}",
    r"[A-Z]+(?:&[A-Z]+)+",
    r"[cC](?:\+\+|#)",
    # words joined by hyphens and slashes
    rf"(?:{_THING}|(?:[dDoOlL]{_ELISION})?{_PD}[{_P}{_D}.,]*)(?:{_DASH}(?:{_ACRONYM}|{_THING}))+",
    rf"{_PIECE}(?:(?:{_DASH}|\\?/){_PIECE})+",
    # numbers
    rf"[+-]?{SOFT_HYPHEN}*(?:{_N}{_DS}*(?:[.,:{DECIMAL}]{_DS}+)*|(?:[.,:{DECIMAL}]{_DS}+)+)",
    rf"{_APOSTROPHE}(?:[2-9]0s|\d\d(?![^ {SPACE}]))",
    rf"(?:{_N}{{1,4}}[ {NO_BREAK}-])?{_N}{{1,4}}(?:\\?/|{SLASH}){_N}{{1,4}}",
    rf"(?:\({_N}{{2,3}}\){_SPACE}?|(?:\+\+?)?(?:{_N}{{2,4}}[ {NO_BREAK}-])?{_N}{{2,4}}[ {NO_BREAK}-])"
    rf"{_N}{{3,4}}[ {NO_BREAK}-]?{_N}{{3,5}}",
    r"[A-Z]+\$",
    # addresses, tags, smileys
    rf"(?i:https?)://{_URL}+\.{_URL}*[^ {SPACE}{NO_BREAK}\"<>|().!?,{{}}-]",
    rf"(?i:https?)://{_URL}+\.{_URL}*/",
    r"(?i:www)\.(?:[\w-]+\.)+[A-Za-z]{2,4}(?:/[^\s\"<>|().!?,{}-]*)?",
    r"(?:[A-Za-z0-9]+\.)+(?:com|net|org|edu)(?:/[^\s\"<>|()]+[^\s\"<>|().,!?{}])",
    r"(?:mailto:)?[\w.+-]++(?<=\w)@\w(?:[\w.-]*\w)?(?:'s)?",
    rf"@[A-Za-z_]{_NAME}*",
    rf"#{_L}+",
    rf"</?[A-Za-z][A-Za-z0-9_.-]*(?:{_BLANK}+{_ATTRIBUTE})*{_BLANK}*/?>|<!--.*?-->|<[?!][^<>]*>",
    r"(?:[<>]?[:;=]['-]?[()DPp\\|\[\]]|:-?O|:3|8-?D)(?![A-Za-z0-9])",
    r"\^_\^|-_-|=_=|>_<|~_~",
    # single marks and runs of them
    r"[?!]+",
    r"-{5,}|-{2,4}",
    rf"\\?\*+|_+|@+|#+|{RAISED}+|<<|>>|&#\d+;|&[lg]t;",
    rf"[`{OPENING}{CLOSING}{QUOTE}]{{2}}",
    r"-[LRlr][RrCcSs][Bb]-",
]
_COMPILED = [re.compile(rule) for rule in _RULES]
_PLAIN_WORD = re.compile(r"[A-Za-z]+(?= |, |$)")

_SPLIT = {
    "cannot": ("can", "not"),
    "gimme": ("gim", "me"),
    "gonna": ("gon", "na"),
    "gotta": ("got", "ta"),
    "lemme": ("lem", "me"),
    "wanna": ("wan", "na"),
    "'tis": ("'t", "is"),
    "'twas": ("'t", "was"),
}
_STRAIGHT = {"n't", "n`t", "'s", "'m", "'d", "'re", "'ve", "'ll"}
_BRACKETS = {"(": "-lrb-", ")": "-rrb-", "[": "-lsb-", "]": "-rsb-", "{": "-lcb-", "}": "-rcb-"}
_SHOWN = _BRACKETS | {
    **dict.fromkeys("\x80\xa4\u20a0\u20ac", "$"),
    "\xa3": "#",
    "\xa2": "cents",
    "\xbc": "1/4",
    "\xbd": "1/2",
    "\xbe": "3/4",
    "\u2153": "1/3",
    "\u2154": "2/3",
    "&lt;": "<",
    "&gt;": ">",
}
_ENTITIES = {"&amp;": "&", "&quot;": '"', "&apos;": "'", "&nbsp;": NO_BREAK}
_QUOTES = {
    **dict.fromkeys("\x91\u2018\u201b\u2039", "`"),
    **dict.fromkeys("\x92\u2019\u203a", "'"),
    **dict.fromkeys("\x93\u201c\xab", "``"),
    **dict.fromkeys("\x94\u201d\xbb", "''"),
}


def ptb_tokenize(text: str) -> list[str]:
    """Lower-cased Penn Treebank tokens without punctuation, as pycocoevalcap's `PTBTokenizer` returns them.

    A token may hold a no-break space (`1\xa01/2`), as the official one does. Brackets stay, as `-lrb-`.
    """
    for entity, character in _ENTITIES.items():
        text = text.replace(entity, character)
    kinds = in_kinds(text)
    tokens: list[str] = []
    position = 0
    while position < len(kinds):
        if kinds[position] in _BLANKS:
            position += 1
            continue
        plain = _PLAIN_WORD.match(kinds, position)
        end = plain.end() if plain else _longest_match(kinds, position)
        tokens.extend(_shown(text[position:end], kinds[position:end]))
        position = end
    return [token for token in tokens if token not in PUNCTUATION]


def _longest_match(kinds: str, position: int) -> int:
    """Where the token at `position` ends: that of the rule which reaches farthest, or one character."""
    best = None
    for pattern in _COMPILED:
        match = pattern.match(kinds, position)
        if match and match.end() > (best.end() if best else position):
            best = match
    if best is None:
        return position + 1
    return best.end(1 if best.re.groups else 0)


def _shown(token: str, kinds: str) -> tuple[str, ...]:
    """What a matched token looks like in the output; none for a character that is no token."""
    token = token.lower()
    if token in PUNCTUATION or token == '"':
        return ()
    if token in _SHOWN:
        return (_SHOWN[token],)
    if len(kinds) == 1 and kinds in _DROPPED:
        return ()
    if kinds[0] in _QUOTE_SIGNS:
        shown = "".join(_QUOTES.get(sign, sign) for sign in token)
        if len(kinds) < 3:
            return (shown,)
    straight = token.translate(_STRAIGHT_SIGNS)
    if straight in _STRAIGHT:
        return (straight,)
    if token in _SPLIT:
        return _SPLIT[token]
    for bracket in "()":
        token = token.replace(bracket, _BRACKETS[bracket])
    if kinds[0] != "#" and "@" not in kinds:
        token = token.replace(SOFT_HYPHEN, "")
    token = re.sub(r"\s", NO_BREAK, token)
    return () if set(token) <= {"."} or (set(token) == {"-"} and len(token) < 5) else (token,)


_BLANKS = " " + NO_BREAK + SPACE
_DROPPED = NOTHING + SOFT_HYPHEN + HYPHEN + DECIMAL
_QUOTE_SIGNS = "`" + OPENING + CLOSING + QUOTE
_STRAIGHT_SIGNS = str.maketrans({"\u2019": "'", "\x92": "'", "\x91": "`", "\u2018": "`", "\u201b": "`"})
