"""Divides captions into words as `text.tokenizer` says, and joins words to captions again.

The same division holds for training words, rewards and scores, and is part of the signature of a score: the
segmenter alone moves CIDEr of the same Chinese captions from 1.0 to 1.6 (docs/howto/languages.md).
"""

import unicodedata
import warnings
from collections.abc import Callable, Sequence
from functools import cache
from importlib.metadata import version

from fsgr_model.config.text_params import Segmenter
from fsgr_model.runtime.errors import needing_extra
from fsgr_model.text.ptb_tokenizer import ptb_tokenize
from fsgr_model.text.scripts import script_without_spaces


def segment(text: str, segmenter: Segmenter) -> list[str]:
    """The words of a caption in lower case, without punctuation and symbols.

    Raises:
        UserError: the package of the segmenter is not installed; the message names the extra.
    """
    return _SEGMENTERS[segmenter](text)


def join(words: Sequence[str], segmenter: Segmenter) -> str:
    """The caption of words: `ptb` joins by spaces, `characters` by nothing.

    The others put a space between two words unless one of the letters that meet is of a script that writes
    without spaces: 一只, 小狗 make 一只小狗, and hot, dog make hot dog.
    """
    if segmenter in ("ptb", "characters"):
        return (" " if segmenter == "ptb" else "").join(words)
    text = ""
    for word in words:
        together = not text or any(script_without_spaces(letter) for letter in (text[-1], word[0]))
        text += word if together else f" {word}"
    return text


def check_segmenter(segmenter: Segmenter) -> None:
    """Import what the segmenter needs.

    Raises:
        UserError: it is not installed; the message names the extra.
    """
    segment("a", segmenter)


def described(segmenter: Segmenter) -> str:
    """What made the words, with the versions that they depend on; part of the signature of a score.

    Raises:
        UserError: as `segment`.
    """
    check_segmenter(segmenter)
    match segmenter:
        case "ptb":
            return "this project's PTB tokenizer"
        case "characters":
            return "single characters, in lower case, without punctuation"
        case "jieba":
            return (
                f"jieba {version('jieba')}, its own dictionary, in lower case, punctuation taken out first, "
                "words of other scripts whole"
            )
        case "words":
            import icu4py

            return f"the word breaks of ICU {icu4py.icu_version}, in lower case, without punctuation"


def _characters(text: str) -> list[str]:
    """Each letter or digit, together with the marks on it."""
    found: list[str] = []
    for character in text.lower():
        kind = unicodedata.category(character)[0]
        if kind == "M" and found:
            found[-1] += character
        elif kind in "LNM":
            found.append(character)
    return found


def _jieba(text: str) -> list[str]:
    """Words of jieba's exact mode; punctuation is taken out before, as it is where such scores are published.

    A mark of punctuation within a number therefore joins its digits. What jieba takes apart though its script
    has spaces between words (caf, é) is put together again.
    """
    kept = "".join(letter for letter in text.lower() if letter.isspace() or _counts(letter))
    words = [""]
    for piece in _jieba_cut()(kept):
        if words[-1] and _of_one_word(words[-1][-1], piece[0]):
            words[-1] += piece
        else:
            words.append(piece)
    return [word for word in words if word and not word.isspace()]


def _of_one_word(letter: str, following: str) -> bool:
    """Whether no word ends between two neighbours, one of them beyond ASCII, in a script with spaces."""
    if (letter + following).isascii() or letter.isspace() or following.isspace():
        return False
    return not (script_without_spaces(letter) or script_without_spaces(following))


@cache
def _jieba_cut() -> Callable[[str], list[str]]:
    """jieba with its own dictionary; `initialize` would read a table that anybody may have put into /tmp."""
    with needing_extra("chinese"), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it imports pkg_resources where there is one
        import jieba
    tokenizer = jieba.Tokenizer()
    tokenizer.FREQ, tokenizer.total = tokenizer.gen_pfdict(tokenizer.get_dict_file())
    tokenizer.initialized = True
    return tokenizer.lcut


def _words(text: str) -> list[str]:
    """Words by Unicode's rules (UAX 29) and, for scripts without spaces, by ICU's dictionaries."""
    with needing_extra("words"):
        from icu4py.breakers import WordBreaker
    return [piece.lower() for piece in WordBreaker(text, "root") if any(map(_counts, piece))]


def _counts(character: str) -> bool:
    """Whether it is a letter, a number or a mark on one."""
    return unicodedata.category(character)[0] in "LNM"


_SEGMENTERS: dict[Segmenter, Callable[[str], list[str]]] = {
    "ptb": ptb_tokenize,
    "characters": _characters,
    "jieba": _jieba,
    "words": _words,
}
