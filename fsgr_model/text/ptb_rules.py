"""The kinds of token that the Penn Treebank tokenizer knows, in the order in which they win a tie.

Written for Stanford's PTBTokenizer (CoreNLP 3.4.1, https://nlp.stanford.edu/software/tokenizer.html).
"""

from collections.abc import Callable
from typing import Final, NamedTuple

from fsgr_model.text import ptb_shown as shown
from fsgr_model.text.ptb_characters import DIGITS, LETTERS, MARKS, SYMBOLS


class Rule(NamedTuple):
    """A kind of token.

    `token` and `follow` are regular expressions: the token, and what has to come after it. Both count for the
    longest match. `shown` makes the token of the output out of the token in lower case.
    """

    token: str
    follow: str = ""
    shown: Callable[[str], str] = str


def _any_of(words: str) -> str:
    """One of the words, in any case."""
    return rf"(?i:{'|'.join(words.split())})"


# Words that keep their full stop, in any case: those that may end a sentence, and those before a name.
_ENDING_ABBREVIATIONS = r"""
    al ala apr ariz assn aug bancorp bhd bldg blvd bros calif co colo conn corp cos ct dak dec ed\.d esq
    est etc
    ext feb fla fri ga inc ind intl jan jr jul jun kan kans ky ltd mar md mich minn mo mon mont neb nev nov
    oct
    okla penn ph\.d plc rd rt sep sept seq sq sr sys tel tenn thu thurs tue tues univ va vt wed wis wisc wyo
"""
_LEADING_ABBREVIATIONS = r"""
    a\.k\.a adj adm adv alex assoc asst atty attys ave brig capt cf cie cmdr col comdr cpl dept det dr drs
    elec
    ens ft gen gov govs hon insp invt jos lieut lt maj messrs mlle mme mr mrs ms msgr mt natl pfc ph pres prof
    profs pvt rep reps rev sen sens sfc sgt spc st ste supt supts treas vs wm
"""
# The same for words that have to be capitalised, and for words before a digit.
_CAPITALISED = "Ark Az Del Ill La Mass Miss Ore Pa Tex Wash"
_BEFORE_DIGIT = "art bldg ca fig figs no nos op pp prop"
_FILE_TYPES = """
    bat bmp c cgi class cpp dll doc docx exe gif gz h htm html jar java jpeg jpg mov mp3 pdf php pl png ppt
    ps py
    sql tar txt wav x xml zip
"""
# Words before which a lone letter's full stop ends the sentence; their first letter has to be a capital.
_SENTENCE_STARTS = r"""
    A About According Additionally After An As At But Earlier He Her Here However If In It Last Many More Mr\.
    Ms\. Now Once One Other Our She Since So Some Such That The Their Then There These They This We What
    When While Yet You
"""

_A, _AN = "[A-Za-z]", "[A-Za-z0-9]"
_L, _LD, _D = f"[{LETTERS}]", f"[{LETTERS}{DIGITS}]", f"[{DIGITS}]"
_SPACE = "[ \t\xa0\u2000-\u200a\u3000]"
_GAP = "[ \t\xa0\u2000-\u200a\u3000\r\n\x0b\x0c\x85\u2028\u2029]"
_APOSTROPHE = "(?:['\u2019\x92]|(?i:&apos;))"
_ANY_APOSTROPHE = "(?:['\u2019\x92`\u2018\x91\u201b]|(?i:&apos;))"
_ENDING = f"{_APOSTROPHE}(?:[msdMSD]|{_any_of('re ve ll')})"
_NEGATION = f"[nN]{_ANY_APOSTROPHE}[tT]"

_IN_WORD = f"(?:[{LETTERS}{MARKS}\xad]|(?i:&[aeiou](?:acute|grave|uml);))"
_PART = f"{_IN_WORD}(?:{_IN_WORD}|{_D})*"
_WORD = rf"{_PART}(?:[.!?]{_PART})*"
_FILE_PART = f"(?:{_IN_WORD}|{_D})+"

_COUNTRIES = r"(?i:(?:Canada|Sino|Korean|EU|Japan|non)-U\.S|U\.S\.-(?:U\.K|U\.S\.S\.R))"
_ACRONYM = rf"(?:{_COUNTRIES}|{_A}(?:\.{_A})*)"
_LONG_ACRONYM = rf"(?:{_COUNTRIES}|{_A}(?:\.{_A})+)"
_STATES = "|".join(f"{word[0]}(?i:{word[1:]})" for word in _CAPITALISED.split())
_ENDING_ABBREVIATION = rf"(?:{_any_of(_ENDING_ABBREVIATIONS)}|{_STATES}|[pP]{{1,2}}[tT][ye][sS]?)\."
_LEADING_ABBREVIATION = rf"(?:{_any_of(_LEADING_ABBREVIATIONS)}|[mM][ft][gG]|{_ACRONYM})\."

_NUMBER = rf"[-+]?(?:{_D}+(?:[.:,\xad\u066b\u066c]{_D}+)*|(?:[.:,\xad\u066b\u066c]{_D}+)+)"
_FEW = rf"{_D}{{1,4}}"
_PHONE_START = r"(?:\([0-9]{2,3}\)[ \xa0]?|(?:\+\+?)?(?:[0-9]{2,4}[- \xa0])?[0-9]{2,4}[- \xa0])"
_DOTTED_PHONE = r"(?:(?:\+\+?)?[0-9]{2,4}\.)?[0-9]{2,4}\.[0-9]{3,4}\.[0-9]{3,5}"

_PIECES = f"(?:[dDoOlL]{_ANY_APOSTROPHE}{_LD})?{_LD}+"
_JOINED = f"{_PIECES}(?:[-_\u058a\u2010\u2011]{_PIECES})*"
_HYPHENED = rf"{_AN}[A-Za-z0-9.,\xad]*(?:-(?:{_LONG_ACRONYM}\.|[A-Za-z0-9\xad]+))+"
_SLASHED = rf"{_AN}+(?:-{_A}+){{0,2}}(?:\\?/{_AN}+(?:-{_A}+){{0,2}}){{1,2}}"
_CAPITALS = "[A-Z]+(?:(?:[+&]|(?i:&amp;))[A-Z]+)+"
_IN_SENTENCE = "[,;:\u3001]"

_TAG_NAME = "[A-Za-z][A-Za-z0-9_:.-]*"
_TAG_SPACE = "[ \r\n]"
_VALUE = f"(?:'[^']*'|\"[^\"]*\"|{_TAG_NAME})"
_ATTRIBUTE = f"{_TAG_NAME}(?:{_TAG_SPACE}*={_TAG_SPACE}*{_VALUE})?"
_ELEMENT = f"{_TAG_NAME}(?:{_TAG_SPACE}+{_ATTRIBUTE})*{_TAG_SPACE}*/?|/{_TAG_NAME}"
_TAG = rf"<(?:[!?][A-Za-z-][^>\r\n]*|{_ELEMENT}){_TAG_SPACE}*>"

_STARTS = "|".join(f"{word[0]}(?i:{word[1:]})" for word in _SENTENCE_STARTS.split())
_START = f"{_GAP}+(?:{_STARTS}|{_TAG}){_GAP}"

_URL_END = r"[^ \t\n\f\r\"<>|.!?(){},-]"
_PATH = rf"(?:/[^ \t\n\f\r\"<>|()]+{_URL_END})?"
_MAIL = r"[^ \t\n\f\r\"<>|(){}.\xa0]+"

_EYES = "[-^x=~<>']"
_FACE = r"[<>]?[:;=][-o*']?[()DPdpO\\{@|\[\]]"

RULES: Final[list[Rule]] = [
    # words that come apart, tags and entities
    Rule(_any_of("can"), _any_of("not")),
    Rule(_any_of("'t"), _any_of("is was")),
    Rule(_any_of("gon got wan"), _any_of("na ta")),
    Rule(_any_of("gim lem"), _any_of("me")),
    Rule(_TAG, "", shown.no_break_spaces),
    Rule("[\x96\x97\u2013-\u2015]|(?i:&(?:md|mdash|ndash);)", "", shown.dash),
    Rule("(?i:&amp;)", "", shown.ampersand),
    Rule("(?i:&(?:ht|tl|ur|lr|qc|ql|qr|odq|cdq|#[0-9]+);)"),
    # words
    Rule(_WORD, _ENDING, shown.without_soft_hyphens),
    Rule("[A-Za-z\xad]*[A-MO-Za-mo-z]\xad*", _NEGATION, shown.without_soft_hyphens),
    Rule(_WORD, "", shown.without_soft_hyphens),
    Rule(
        f"{_APOSTROPHE}[nN]{_APOSTROPHE}?|[lLdDjJ]{_APOSTROPHE}|{_any_of('dunkin somethin ol')}{_APOSTROPHE}"
    ),
    Rule(f"{_APOSTROPHE}{_any_of('em cause till?')}|{_APOSTROPHE}[2-9]0(?i:s)"),
    Rule(f"[A-HJ-XZn]{_ANY_APOSTROPHE}{_L}{{2,}}"),
    Rule(f"{_L}+[aeiouyAEIOUY]{_ANY_APOSTROPHE}[aeiouA-Z]{_L}*"),
    Rule(
        _any_of(r"cont'd\.? nor'easter c'mon e'er s'mores ev'ry li'l nat'l") + f"|[oO]{_ANY_APOSTROPHE}[oO]"
    ),
    Rule(f"[yY]{_APOSTROPHE}", _L),
    # addresses
    Rule(rf"{_any_of('https?')}://[^ \t\n\f\r\"<>|()]+{_URL_END}"),
    Rule(rf"{_any_of('www')}\.(?:[^ \t\n\f\r\"<>|.!?(){{}},]+\.)+[a-zA-Z]{{2,4}}{_PATH}"),
    Rule(rf"(?:[^ \t\n\f\r\"`'<>|.!?(){{}}$,-_]+\.)+{_any_of('com net org edu')}{_PATH}"),
    Rule(rf"(?:(?i:&lt;)|<)?{_AN}[^ \t\n\f\r\"<>|(){{}}\xa0]*@(?:{_MAIL}\.)*{_MAIL}(?:(?i:&gt;)|>)?"),
    Rule(f"@[a-zA-Z_][a-zA-Z_0-9]*|#{_IN_WORD}+"),
    # endings and numbers
    Rule(_ENDING, "[^A-Za-z]", shown.quotes),
    Rule(_NEGATION, "", shown.quotes),
    Rule(rf"{_D}{{1,2}}[-/]{_D}{{1,2}}[-/]{_D}{{2,4}}"),
    Rule(_NUMBER, "", shown.without_soft_hyphens),
    Rule("[\u207a\u207b\u208a\u208b]?(?:[\u2070\xb9\xb2\xb3\u2074-\u2079]+|[\u2080-\u2089]+)"),
    Rule(rf"(?:{_FEW}[- \xa0])?{_FEW}(?:\\?/|\u2044){_FEW}", "", shown.no_break_spaces),
    Rule("[\xbc-\xbe\u2153-\u215e]", "", shown.fraction),
    Rule(
        "-"
        + _any_of("rrb lrb rcb lcb rsb lsb")
        + "-|"
        + _any_of(r"c\.d\.s pro- anti-")
        + f"|(?i:s(?:&amp;|&)(?:p-500|ls)|cap{_APOSTROPHE}n|c{_APOSTROPHE}est)",
        "",
        shown.ampersand,
    ),
    Rule(_SLASHED),
    Rule(r"[A-Z]*\$|#"),
    Rule("[\x80\xa2-\xa5\u060b\u0e3f\u20a0\u20a4\u20ac\uffe0\uffe1\uffe5\uffe6]", "", shown.currency),
    # abbreviations
    Rule(f"{_A}", rf"\.{_START}"),
    Rule(rf"{_LONG_ACRONYM}\.", _START),
    Rule(_ENDING_ABBREVIATION, "(?s:..)"),
    Rule(_LEADING_ABBREVIATION),
    Rule(_ACRONYM, _GAP),
    Rule(f"{_APOSTROPHE}[0-9][0-9]", _GAP),
    Rule(rf"{_any_of(_BEFORE_DIGIT)}\.", f"{_GAP}?{_D}"),
    Rule(rf"{_FILE_PART}(?:\.{_FILE_PART})*\.{_any_of(_FILE_TYPES)}", f"{_GAP}|[.?!,]"),
    Rule(rf"{_WORD}\.", _IN_SENTENCE, shown.without_soft_hyphens),
    Rule(rf"{_PHONE_START}[0-9]{{3,4}}[- \xa0]?[0-9]{{3,5}}|{_DOTTED_PHONE}", "", shown.phone),
    # quotes, brackets and marks
    Rule('"|(?i:&quot;)', "", shown.quotes),
    Rule("<|(?i:&lt;)", "", shown.bracket),
    Rule(">|(?i:&gt;)", "", shown.bracket),
    Rule(_FACE, "[^A-Za-z0-9]", shown.round_brackets),
    Rule(rf"{_EYES}_{_EYES}|\({_EYES}[_.]?{_EYES}\)|\([\^x=~<>']-[\^x=~<>'`]\)", "", shown.round_brackets),
    Rule(r"[()\[\]{}]", "", shown.bracket),
    Rule("-+", "", shown.dash),
    Rule(r"(?:\.[ \xa0]){2,4}\.|\.{3,5}|[\x85\u2026]", "", shown.dots),
    Rule("@+|#+|_+"),
    Rule(r"\*+|(?:\\\*){1,3}"),
    Rule(_IN_SENTENCE),
    Rule("[?!]+"),
    Rule("[.=/]"),
    Rule(f"{_SPACE}+|(?i:&nbsp;)", "", shown.nothing),
    # joined words
    Rule(rf"{_HYPHENED}\.", _IN_SENTENCE, shown.without_soft_hyphens),
    Rule(_HYPHENED, "", shown.without_soft_hyphens),
    Rule(rf"(?:{_JOINED}|{_CAPITALS})\.", _IN_SENTENCE, shown.ampersand),
    Rule(_JOINED),
    Rule(_CAPITALS, "", shown.ampersand),
    # what is left
    Rule("'", rf"{_A}[^ \t\n\r\xa0]", shown.quotes),
    Rule(_ENDING, "", shown.quotes),
    Rule(f"''|[`\x91-\x94\xab\xbb\u2018-\u201f\u2039\u203a]{{1,2}}|{_APOSTROPHE}", "", shown.quotes),
    Rule("<<|>>"),
    Rule(f"[{SYMBOLS}+&~^|\\\\\xb2\xb3\xb9\u2044\u207a\u207b\u208a\u208b]"),
    Rule(r"[cC]\+\+|[cCfF]#"),
]

# The words of letters alone that a rule of their own may take; every other one is a token as it stands.
WORDS_WITH_RULES: Final = frozenset(
    f"{_ENDING_ABBREVIATIONS} {_LEADING_ABBREVIATIONS} {_CAPITALISED} {_BEFORE_DIGIT}"
    " mfg mtg pte ptes pty ptys ppte pptes ppty pptys cannot gimme gonna gotta lemme wanna".lower().split()
)
