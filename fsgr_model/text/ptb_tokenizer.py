"""Penn Treebank tokens as the COCO caption metrics count them, without Java.

The official metrics tokenize with Stanford's PTBTokenizer (CoreNLP 3.4.1, `-preserveLines -lowerCase`) and
then drop a list of punctuation marks. That program takes the longest match of its rules, the earlier rule on
a tie. This module works the same way, with rules written from the Java program's observed output.

One difference is meant: in the official batch, a caption that ends in a lone letter ("and 12th Ave S.") keeps
or loses that full stop depending on the caption that happens to come next; here no caption sees another.
"""

import re

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


_MARK = "\xad\u0300-\u036f\u0483-\u0487\u0591-\u05bd\u064b-\u065e\u0900-\u0903\u093c\u093e-\u094d"
_NO_LETTER = "\\W\\d_\xb2\xb3\xb9\xbc-\xbe\u2070-\u2189\u2460-\u249b"
_L = f"(?:[^{_NO_LETTER}]|[{_MARK}])"
_LD = rf"(?:{_L}|\d)"
_APOSTROPHE = "(?:['\u2019\x92]|&apos;)"
_PIECE = rf"(?:[dDoOlL]{_APOSTROPHE}(?={_LD}))?{_LD}+"
_THING = rf"{_PIECE}(?:_{_LD}+)*"
_ACRONYM = r"[A-Za-z](?:\.[A-Za-z])+\."
_STATE = _any_of(_CAPITALISED + " " + _CAPITALISED.upper())
_DOTTED = rf"(?:(?i:{_any_of(_ABBREVIATIONS)})|{_STATE})\."
_START = _any_of(_SENTENCE_STARTS + _SENTENCE_STARTS.upper())
_SPACE = "[ \xa0]"
_HYPHEN = "[-\u058a\u2010\u2011]"
_URL = r"[^\s\"<>|()]"
_ATTRIBUTE = r"[A-Za-z][\w.:-]*(?:\s*=\s*(?:\"[^\"]*\"|'[^']*'|[^\s\"'<>]+))?"

# A token is group 1 where a rule has one (the rest only has to follow), else the whole match.
_RULES = [
    # words and their contractions
    rf"({_L}*(?![nN])[^\W\d_])[nN]{_APOSTROPHE}[tT]",
    rf"[nN]{_APOSTROPHE}[tT]",
    rf"({_LD}+){_APOSTROPHE}(?i:[msd]|re|ve|ll)(?!{_L})",
    rf"{_APOSTROPHE}(?i:[msd]|re|ve|ll)(?!{_L})",
    rf"{_L}{_LD}*(?:[.!?]{_L}{_LD}*)*",
    rf"{_LD}+(?:_{_LD}+)*",
    rf"(?i:{_APOSTROPHE}(?:n{_APOSTROPHE}?|em|cause|til))(?!{_L}|-)",
    rf"{_APOSTROPHE}n{_APOSTROPHE}",
    r"(?i:'t(?:is|was))",
    rf"(?i:[ldj]|dunkin|somethin|ol){_APOSTROPHE}",
    rf"(?i:(?:cap{_APOSTROPHE}n|c{_APOSTROPHE}mon|s{_APOSTROPHE}mores|e{_APOSTROPHE}er))",
    rf"(?:[A-HJ-XZn]|[dol]){_APOSTROPHE}{_L}{{2}}{_LD}*",
    rf"{_L}+[aeiouyAEIOUY]{_APOSTROPHE}[aeiouA-Z]{_L}*",
    rf"([yY]{_APOSTROPHE}){_L}",
    # abbreviations and acronyms
    _DOTTED,
    rf"([A-Za-z])\.{_SPACE}+(?:{_START})\s",
    rf"((?i:{_any_of(_BEFORE_DIGIT)})\.)\s?\d",
    r"[A-Z]+(?:&[A-Z]+)+",
    r"[cC](?:\+\+|#)",
    # words joined by hyphens and slashes
    rf"(?:{_THING}|(?:[dDoOlL]{_APOSTROPHE})?{_LD}(?:{_LD}|[.,])*)(?:{_HYPHEN}(?:{_ACRONYM}|{_THING}))+",
    rf"{_PIECE}(?:(?:{_HYPHEN}|\\?/){_PIECE})+",
    # numbers
    r"[+-]?(?:\d+(?:[.,:]\d+)*|(?:[.,:]\d+)+)",
    rf"{_APOSTROPHE}(?:[2-9]0s|\d\d(?!\S))",
    r"(?:\d{1,4}[ \xa0-])?\d{1,4}(?:\\?/|\u2044)\d{1,4}",
    r"(?:\(\d{2,3}\)[ \xa0]?|(?:\+\+?)?(?:\d{2,4}[ \xa0-])?\d{2,4}[ \xa0-])\d{3,4}[ \xa0-]?\d{3,5}",
    r"[A-Z]+\$",
    # addresses, tags, smileys
    rf"(?i:https?)://{_URL}+\.{_URL}*[^\s\"<>|().!?,{{}}-]",
    rf"(?i:https?)://{_URL}+\.{_URL}*/",
    r"(?i:www)\.(?:[\w-]+\.)+[A-Za-z]{2,4}(?:/[^\s\"<>|().!?,{}-]*)?",
    r"(?:[A-Za-z0-9]+\.)+(?:com|net|org|edu)(?:/[^\s\"<>|()]+[^\s\"<>|().,!?{}])",
    r"(?:mailto:)?[\w.+-]++(?<=\w)@\w(?:[\w.-]*\w)?(?:'s)?",
    r"@[A-Za-z_]\w*",
    rf"#{_L}+",
    rf"</?[A-Za-z][\w.-]*(?:\s+{_ATTRIBUTE})*\s*/?>|<!--.*?-->|<[?!][^<>]*>",
    r"(?:[<>]?[:;=]['-]?[()DPp\\|\[\]]|:-?O|:3|8-?D)(?![^\W_])",
    r"\^_\^|-_-|=_=|>_<|~_~",
    # single marks and runs of them
    r"[?!]+",
    r"-{5,}|-{2,4}",
    r"\\?\*+|_+|@+|#+|<<|>>|&#\d+;|&[lg]t;",
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
_STRAIGHT = {"n't", "'s", "'m", "'d", "'re", "'ve", "'ll"}
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
_ENTITIES = {"&amp;": "&", "&quot;": '"', "&apos;": "'", "&nbsp;": "\xa0"}
# Marks that are tokens; every other character that no rule takes (emoji, control characters) vanishes.
_SYMBOL = re.compile(
    "[$%&*+/<=>@^|~\\\\#\xa1\xa5-\xa9\xac\xae-\xb4\xb6-\xb9\xbf\xd7\xf7\u2016\u2017\u201a\u201e-\u2023\u2030-\u2038"
    "\u203b\u203e-\u2042\u2044\u2070\u2074-\u207e\u2080-\u208e\u20a4\u2100-\u214f\u2155-\u215e\u2190-\u2bff\u3001"
    "\u3002\u3012\u30fb\uff01-\uff0f\uff1a-\uff20\uff3b-\uff40\uff5b-\uff65\uffe0\uffe1\uffe5\uffe6]"
)


def ptb_tokenize(text: str) -> list[str]:
    """Lower-cased Penn Treebank tokens without punctuation, as pycocoevalcap's `PTBTokenizer` returns them.

    A token may hold a no-break space (`1\xa01/2`), as the official one does. Brackets stay, as `-lrb-`.
    """
    for entity, character in _ENTITIES.items():
        text = text.replace(entity, character)
    tokens: list[str] = []
    position = 0
    while position < len(text):
        if text[position].isspace():
            position += 1
            continue
        plain = _PLAIN_WORD.match(text, position)
        token = plain.group() if plain else _longest_match(text, position)
        position += len(token)
        tokens.extend(_shown(token))
    return [token for token in tokens if token not in PUNCTUATION]


def _longest_match(text: str, position: int) -> str:
    """The token at `position`: that of the rule which reaches farthest, or one character."""
    best = None
    for pattern in _COMPILED:
        match = pattern.match(text, position)
        if match and match.end() > (best.end() if best else position):
            best = match
    if best is None:
        return text[position]
    return best.group(1) if best.re.groups else best.group()


def _shown(token: str) -> tuple[str, ...]:
    """What a matched token looks like in the output; none for a character that is no token."""
    token = token.lower()
    if token in _SHOWN:
        return (_SHOWN[token],)
    if len(token) == 1 and not token.isalnum() and token != "_":
        return (token,) if _SYMBOL.match(token) else ()
    straight = token.replace("\u2019", "'").replace("\x92", "'")
    if straight in _STRAIGHT:
        return (straight,)
    if token in _SPLIT:
        return _SPLIT[token]
    for bracket in "()":
        token = token.replace(bracket, _BRACKETS[bracket])
    token = re.sub(r"\s", "\xa0", token.replace("\xad", ""))
    return () if set(token) <= {"."} or (set(token) == {"-"} and len(token) < 5) else (token,)
