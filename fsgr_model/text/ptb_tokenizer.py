"""Penn Treebank tokens as the COCO caption metrics count them, without Java.

The official metrics tokenize with Stanford's PTBTokenizer (CoreNLP 3.4.1, `-preserveLines -lowerCase`) and
then drop a list of punctuation marks. That program takes the longest match of its rules, the earlier rule on
a tie. This module works the same way, with rules written only from the program's observed output: what
it returns for probes (tests/text/ptb_probes.py) and for random strings, reduced to the shortest that differ.
The rules read a text of character kinds (`character_kinds`), so that they hold for all scripts.

One difference is intended: in an official batch, a caption that ends in a single letter ("and 12th Ave S.")
keeps or loses that full stop depending on the next caption; here captions do not influence each other.
"""

import re

from fsgr_model.text.character_kinds import (
    CLOSING,
    COMMA,
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
    WIDE,
    in_kinds,
)

PUNCTUATION = frozenset(["''", "'", "``", "`", ".", "?", "!", ",", ":", "-", "--", "...", ";"])

# Words that keep their full stop: even with a letter after it ("Jan.a"); the same for companies, not all in
# capitals; the same for states, with a capital; not with a letter after it ("Mr.a"); only before a digit.
_FIRM = """
    al ala apr ariz assn aug bancorp bhd bldg blvd bros calif co colo conn corp cos ct dak dec esq est
    etc ext feb fla fri ga inc ind intl jan jr jul jun kan kans ky ltd mar md mich minn mo mon mont neb
    nev nov oct okla penn plc rd rt sep sept seq sq sr sys tel tenn thu thurs tue tues univ va vt wed
    wis wisc wyo ph\\.d ed\\.d
"""
_COMPANIES = "[Pp]?[Pp]t[ey]s?"
_CAPITALISED = "Ark Az Del Ill La Mass Miss Ore Pa Tex Wash"
_TITLES = """
    adj adm adv alex assoc asst atty attys ave brig capt cf cie cmdr col comdr cpl dept det dr drs elec
    ens ft gen gov govs hon insp invt jos lieut lt maj messrs mfg mlle mme mr mrs ms msgr mt mtg natl
    pfc ph pres prof profs pvt rep reps rev sen sens sfc sgt spc st ste supt supts treas vs wm
"""
_CUT_IN_TWO = "(can)not|(gim)me|(gon)na|(got)ta|(lem)me|(wan)na"
_BEFORE_DIGIT = "art ca fig figs no nos op pp prop"
# The full stop after a single letter ends the sentence if one of these words follows.
_SENTENCE_STARTS = """
    A About According Additionally After An As At But Earlier He Her Here However If In It Last Many More Now
    Once One Other Our She Since So Some Such That The Their Then There These They This We What When While Yet
    You
"""
_SUFFIXES = """
    bat bmp c cgi cpp dll docx? exe gif gz h html? jar java jpe?g mov mp3 pdf php pl png ppt ps py sql tar txt
    wav x xml zip
"""


def _any_of(words: str) -> str:
    return "|".join(words.split())


# Letters proper and digits, as they stand within brackets; a digit; one of both; blanks.
_P, _D = f"A-Za-z{LETTER}", f"0-9{DIGIT}"
_N, _PD = f"[{_D}]", f"[{_P}{_D}]"
_SPACE, _GAP, _BLANKS = f"[ {NO_BREAK}]", f"[ {NO_BREAK}-]", f" \t{NO_BREAK}{WIDE}"
# A word's first character and any other: marks belong to it.
_ACCENTED = "&[AEIOUaeiou](?i:acute|grave|uml);"
_L = f"(?:[{_P}{MARK}{SOFT_HYPHEN}]|{_ACCENTED})"
_LD = f"(?:[{_P}{_D}{MARK}{SOFT_HYPHEN}]|{_ACCENTED})"
_WORD = rf"{_L}{_LD}*(?:[.!?]{_L}{_LD}*)*"
# Apostrophes of English contractions; those of elisions ("l`homme").
_APOSTROPHE = f"(?:['{CLOSING}]|&apos;)"
_ELISION = f"(?:['`{CLOSING}{OPENING}]|&apos;)"
_START = _any_of(_SENTENCE_STARTS + _SENTENCE_STARTS.upper())
_STATE = "|".join(f"{state[0]}(?i:{state[1:]})" for state in _CAPITALISED.split())
_EYE = "['<=>^~x-]"
_NUMBER = f"{SOFT_HYPHEN}?{_N}(?:{SOFT_HYPHEN}?{_N})*"
# What a hyphen joins.
_PIECE = rf"(?:[dDoOlL]{_ELISION}{_PD}{{2,}}|{_PD}+)"
_THING = rf"{_PIECE}(?:_{_PIECE})*"
# Addresses and tags: characters that end one; a path; characters of a host and of a mail address.
_URL = r' \t"<>|()'
_PATH = rf"/[^{_URL}]+[^{_URL}{{}}.!?,-]"
_LABEL = r"[^ \tA-Z0-9!\"$'(),\-./:;<=>?@[\\\]^_`{|}]"
_MAIL = rf"[^{_URL}{{}}{NO_BREAK}.]"
_NAME = "[A-Za-z][A-Za-z0-9_:.-]*"
_ATTRIBUTE = rf"""{_NAME}(?: *= *(?:"[^"]*"|'[^']*'))?"""
_TAG = rf"<{_NAME}(?: +{_ATTRIBUTE})* */?>|</{_NAME} *>|<[!?][A-Za-z-][^>]*>"

# Matches of these rules (files, addresses, tags) are shown as written, with their soft hyphens.
_FILE = rf"{_LD}+(?:\.{_LD}+)*\.(?i:{_any_of(_SUFFIXES)})(?=[{_BLANKS}!,.?]|$)"
_ADDRESSES = [
    rf"(?i:https?)://[^{_URL}{{}}]+[^{_URL}{{}}.!?,-]",
    rf"(?i:www)\.(?:[^{_URL}{{}}!?,.]+\.)+[A-Za-z]{{2,4}}",
    rf"(?i:www)\.(?:[^{_URL}{{}}!?,.]+\.)+[A-Za-z]{{2,4}}{_PATH}",
    rf"(?:{_LABEL}+\.)+(?i:com|net|org|edu)",
    rf"(?:{_LABEL}+\.)+(?i:com|net|org|edu){_PATH}",
    rf"(?:<|&lt;)?[A-Za-z0-9](?:{_MAIL}|\.)*@{_MAIL}+(?:\.{_MAIL}+)*(?:>|&gt;)?",
    r"@[A-Za-z_][A-Za-z0-9_]*",
    rf"#{_L}+",
    _TAG,
]
# In rules with a group the group is the token, but the whole match counts as the rule's length.
_CONTRACTIONS = [
    f"(?i:{_CUT_IN_TWO})",
    rf"((?:(?i:{_any_of(_FIRM)})|{_COMPANIES}|{_STATE})\.)-?.",
    rf"([A-Za-z{SOFT_HYPHEN}]*(?![nN])[A-Za-z]{SOFT_HYPHEN}*)[nN]{_ELISION}[tT]",
    rf"[nN]{_ELISION}[tT]",
    rf"({_WORD}|{_PD}+){_APOSTROPHE}(?i:[msd]|re|ve|ll)",
    rf"{_APOSTROPHE}(?i:[msd]|re|ve|ll)(?![A-Za-z])",
    rf"(?:{CLOSING}|&apos;)(?i:[msd]|re|ve|ll)",
]
_WORDS = [
    _WORD,
    _THING,
    r"[A-Z]+(?:(?:&(?:amp;)?|\+)[A-Z]+)+",
    rf"{_THING}(?:[-{HYPHEN}]{_THING})+",
    rf"[A-Za-z0-9][A-Za-z0-9.,{SOFT_HYPHEN}]*(?:-(?:[A-Za-z](?:\.[A-Za-z])+\.|[A-Za-z0-9{SOFT_HYPHEN}]+))+",
]
_RULES = [
    # a word's full stop is its own before another stop
    *(rf"((?:{word})\.)[,:;{COMMA}]" for word in _WORDS),
    # apostrophes
    rf"[A-HJ-XZdlno]{_ELISION}[{_P}]{{2,}}",
    rf"[{_P}]+[aeiouyAEIOUY]{_ELISION}[aeiouA-Z][{_P}]*",
    rf"[oO]{_ELISION}[oO]",
    rf"{_APOSTROPHE}(?i:em|cause|till?|n{_APOSTROPHE})",
    rf"'[nN](?=['{CLOSING}{NO_BREAK} ]|$)|(?:{CLOSING}|&apos;)[nN]",
    r"('[tT])(?i:is|was)",
    rf"(?i:[ldj]|dunkin|somethin|ol){_APOSTROPHE}",
    rf"(?i:cap{_APOSTROPHE}n|c{_APOSTROPHE}est|c'mon|s'mores|e'er|ev'ry|nat'l|li'l|cont'd\.)",
    rf"([yY]{_APOSTROPHE})[{_P}]",
    # abbreviations, acronyms
    rf"(?:(?i:{_any_of(_FIRM + _TITLES)})|{_COMPANIES}|{_STATE}|[A-Za-z](?:\.[A-Za-z])*)\.",
    rf"([A-Za-z])\.[{_BLANKS}]+(?:{_START}|M[RSrs]\.|{_TAG})(?:[{_BLANKS}]|$)",
    rf"((?i:{_any_of(_BEFORE_DIGIT)})\.)[{_BLANKS}]?{_N}",
    r"[cC]\+\+|[cCfF]#",
    r"[A-Za-z0-9]+(?:-[A-Za-z]+){,2}(?:\\?/[A-Za-z0-9]+(?:-[A-Za-z]+){,2}){1,2}",
    # numbers
    rf"[+-]?(?:{_NUMBER})?(?:[.,:{DECIMAL}](?!{SOFT_HYPHEN}){_NUMBER})+",
    rf"[+-]?{_NUMBER}",
    rf"{_N}{{1,2}}[/-]{_N}{{1,2}}[/-]{_N}{{2,4}}",
    rf"{_APOSTROPHE}(?:[2-9]0s|[0-9]{{2}}(?![^{_BLANKS}]))",
    rf"(?:{_N}{{1,4}}{_GAP})?{_N}{{1,4}}(?:\\?/|{SLASH}){_N}{{1,4}}",
    rf"(?:\([0-9]{{2,3}}\){_SPACE}?|(?:\+\+?)?(?:[0-9]{{2,4}}{_GAP})?[0-9]{{2,4}}{_GAP})"
    rf"[0-9]{{3,4}}{_GAP}?[0-9]{{3,5}}",
    r"[A-Z]+\$",
    # smileys
    r"[<>]?[:;=]['*o-]?[()DPdpO\\{|@\[\]](?![A-Za-z0-9])",
    f"{_EYE}_{_EYE}",
    rf"\({_EYE}[_.]?{_EYE}\)|\((?!-){_EYE}-(?!-){_EYE}\)",
    # entities, single marks and runs of them
    "&(?i:amp|apos|gt|lt|nbsp|quot|md|mdash|ndash|cdq|odq|ht|lr|qc|ql|qr|tl|ur);|&#[0-9]+;",
    rf"[{_BLANKS}]+",
    rf"\.{{3,5}}|\.(?:{_SPACE}\.){{2,4}}",
    r"[?!]+",
    r"-{5,}|-{2,4}|''",
    rf"\\\*|\*+|_+|@+|#+|{RAISED}+|<<|>>",
    rf"[`{OPENING}{CLOSING}{QUOTE}]{{2}}",
    r"-[LRlr][RrCcSs][Bb]-",
]
_COMPILED = [re.compile(rule) for rule in (*_CONTRACTIONS, _FILE, *_WORDS, *_RULES, *_ADDRESSES)]
_AS_WRITTEN = {re.compile(rule) for rule in (_FILE, *_ADDRESSES)}
# A run of blanks; if it begins with a no-break or a wide space, it may be the start of an address.
_BLANK = re.compile(rf"[ \t][{_BLANKS}]*")
# Plain words between single or several spaces, with commas and a full stop at the end: most captions.
_PLAIN_CAPTION = re.compile("[A-Za-z]+(?:,? +[A-Za-z]+)* *[.]? *")
_WITHOUT_MARKS = str.maketrans("", "", ",.")
_CUT_WORDS = frozenset(re.sub("[()]", "", _CUT_IN_TWO).split("|"))
# A last word that may keep its full stop.
_MAY_KEEP_STOP = re.compile(rf"{_any_of(_FIRM + _TITLES + _CAPITALISED)}|{_COMPANIES}|[a-z]", re.IGNORECASE)
# Matches most words: no other rule has a longer match there.
_PLAIN_WORD = re.compile(rf"(?!(?i:{_CUT_IN_TWO})\b)[{_P}{MARK}]+(?= |, |$)")

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
    "&amp;": "&",
    "&lt;": "<",
    "&gt;": ">",
}
_QUOTES = {
    **dict.fromkeys("\x91\u2018\u201b\u2039", "`"),
    **dict.fromkeys("\x92\u2019\u203a", "'"),
    **dict.fromkeys("\x93\u201c\xab", "``"),
    **dict.fromkeys("\x94\u201d\xbb", "''"),
}
# Tokens, or kinds of a token, that are not shown.
_NO_TOKENS = {NOTHING, HYPHEN, DECIMAL, '"', "&nbsp;", "&quot;", "&apos;", "&md;", "&mdash;", "&ndash;"}
_BLANK_SIGNS = {*_BLANKS, SOFT_HYPHEN}
_QUOTE_SIGNS = {"`", OPENING, CLOSING, QUOTE}
_STRAIGHT_SIGNS = str.maketrans({"\u2019": "'", "\x92": "'", "\x91": "`", "\u2018": "`", "\u201b": "`"})
_ONE_WORD = str.maketrans(dict.fromkeys(" \t\n\x0b\x0c\r\x1c\x1d\x1e\x85\u2028\u2029", NO_BREAK))
_SIGNS = str.maketrans({SOFT_HYPHEN: "", "(": "-lrb-", ")": "-rrb-"})


def ptb_tokenize(text: str) -> list[str]:
    """Lower-cased Penn Treebank tokens without punctuation, as pycocoevalcap's `PTBTokenizer` returns them.

    A token may hold a no-break space (`1\xa01/2`), as the official one does. Brackets stay, as `-lrb-`.
    """
    return _plain_words(text) or _by_rules(text)


def _plain_words(text: str) -> list[str]:
    """The tokens of a caption in which no rule joins, divides or changes a word; empty for any other."""
    if not _PLAIN_CAPTION.fullmatch(text):
        return []
    words = text.lower().translate(_WITHOUT_MARKS).split()
    keeps_stop = text.endswith((".", " ")) and _MAY_KEEP_STOP.fullmatch(words[-1])
    return words if _CUT_WORDS.isdisjoint(words) and not keeps_stop else []


def _by_rules(text: str) -> list[str]:
    """As `ptb_tokenize`."""
    kinds = in_kinds(text)
    tokens: list[str] = []
    position = 0
    while position < len(kinds):
        if blanks := _BLANK.match(kinds, position):
            position = blanks.end()
            continue
        if plain := _PLAIN_WORD.match(kinds, position):
            tokens.append(text[position : plain.end()].lower())
            position = plain.end()
            continue
        end, as_written = _longest_match(kinds, position)
        tokens.extend(_shown(text[position:end].lower(), kinds[position:end], as_written=as_written))
        position = end
    return [token for token in tokens if token not in PUNCTUATION]


def _longest_match(kinds: str, position: int) -> tuple[int, bool]:
    """Where the token at `position` ends, and whether it is shown as written.

    The rule with the longest match wins; without a match one character is a token.
    """
    best = None
    for pattern in _COMPILED:
        match = pattern.match(kinds, position)
        if match and match.end() > (best.end() if best else position):
            best = match
    if best is None:
        return position + 1, False
    return best.end(best.lastindex or 0), best.re in _AS_WRITTEN


def _shown(token: str, kinds: str, *, as_written: bool) -> tuple[str, ...]:
    """The output for a matched token; empty for a character that is not a token."""
    if as_written:
        return (token.translate(_ONE_WORD),)
    if token in _SHOWN:
        return (_SHOWN[token],)
    if kinds in _NO_TOKENS or set(kinds) <= _BLANK_SIGNS:
        return ()
    straight = token.translate(_STRAIGHT_SIGNS).replace("&apos;", "'")
    if straight in _STRAIGHT:
        return (straight,)
    if set(kinds) <= _QUOTE_SIGNS:
        return ("".join(_QUOTES.get(sign, sign) for sign in token),)
    token = token.replace("&amp;", "&").translate(_SIGNS).translate(_ONE_WORD)
    return () if set(token) <= {".", NO_BREAK} or (set(token) == {"-"} and len(token) < 5) else (token,)
