"""When a caption score would be meaningless, and the reason to give in its place."""

import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice

from fsgr_model.scoring.caption_tokens import Tokenizer, tokens_of
from fsgr_model.text.scripts import script_without_spaces

# A zero width space divides words as well, where it is present.
SPACES = re.compile("[\\s\u200b]+")
# More letters than a word has, and more than a caption of one short word.
LONGER_THAN_A_WORD = 12
SHORT_WORD = 2
SHARE_NOT_SEGMENTED = 0.1
N_GRAMS = 4
ONE_IMAGE = "one image has no document frequencies: every n-gram is in all images and weighs nothing"
SAME_N_GRAMS = (
    "the references of all images have the same n-grams, so by their document frequencies each weighs nothing"
)
ONE_IMAGE_NO_INTERVAL = "an interval needs several images to draw from; there is one"


def why_no_words(captions: Iterable[Sequence[str]], tokenizer: Tokenizer = "python") -> str | None:
    """Why no metric that counts words can be had of these captions of images; None where it can.

    That is so if more than a tenth of them lack spaces in a script that writes words without spaces, and the
    tokenizer divides words at spaces, or is jieba, which knows Chinese words alone.
    """
    if tokenizer not in ("python", "java", "jieba"):
        return None
    texts = [text for of_image in captions for text in of_image]
    script_of = not_chinese if tokenizer == "jieba" else unsegmented_script
    scripts = [script for text in texts if (script := script_of(text))]
    if len(scripts) <= SHARE_NOT_SEGMENTED * len(texts):
        return None
    names = ", ".join(sorted(set(scripts)))
    if tokenizer == "jieba":
        return (
            f"needs another segmenter: {len(scripts)} of {len(texts)} captions are {names} text, which jieba "
            "takes apart into single signs; name words: text.tokenizer in params.yaml, --tokenizer of fsgr "
            "score and fsgr compare (docs/howto/languages.md)"
        )
    return (
        f"needs a segmenter: {len(scripts)} of {len(texts)} captions are {names} text without white space "
        "between its words, so that each would count as one word; name a segmenter: text.tokenizer in "
        "params.yaml, --tokenizer of fsgr score and fsgr compare (docs/howto/languages.md)"
    )


def unsegmented_script(text: str) -> str | None:
    """The script of a caption whose words run together; None where spaces divide them.

    They run together if the caption has no space between its words and more letters than a short word, or a
    run of more than 12 letters.
    """
    if text.isascii():
        return None
    words = [word for word in SPACES.split(text) if any(map(str.isalnum, word))]
    letters = [filter(str.isalpha, word) for word in words]
    scripts = [[script for letter in word if (script := script_without_spaces(letter))] for word in letters]
    longest = max(scripts, key=len, default=[])
    limit = SHORT_WORD if len(words) == 1 else LONGER_THAN_A_WORD
    return longest[0] if len(longest) > limit else None


def not_chinese(text: str) -> str | None:
    """The script of a caption that writes words without spaces and is not Chinese; None if it has none."""
    for letter in text:
        if script := script_without_spaces(letter):
            name = unicodedata.name(letter)
            if "KATAKANA" in name or name.startswith("HIRAGANA"):
                return "Japanese"
            if not name.startswith(("CJK", "BOPOMOFO")):
                return script
    return None


def has_latin_words(texts: Iterable[str]) -> bool:
    """Whether most letters of these captions are Latin ones, as those of English are; also of no letters."""
    letters = [letter for text in texts for letter in text if letter.isalpha()]
    latin = sum(letter.isascii() or unicodedata.name(letter, "").startswith("LATIN") for letter in letters)
    return 2 * latin >= len(letters)


def why_no_cider(references: Mapping[int, Sequence[str]], tokenizer: Tokenizer = "python") -> str | None:
    """Why CIDEr with the document frequencies of these references would be 0 for any captions; else None.

    An n-gram weighs log(images / images with the n-gram), which is 0 for an n-gram of all images.

    Args:
        references: image id -> raw captions.
        tokenizer: divides them into words.
    """
    if len(references) == 1:
        return ONE_IMAGE
    found = (_ngrams(captions, tokenizer) for captions in references.values())
    first = next(found, frozenset())
    return SAME_N_GRAMS if all(ngrams == first for ngrams in found) else None


def _ngrams(captions: Sequence[str], tokenizer: Tokenizer) -> frozenset[tuple[str, ...]]:
    """All n-grams of an image's captions, n from 1 to 4."""
    rows = [tokens_of(caption, tokenizer) for caption in captions]
    return frozenset(
        ngram
        for tokens in rows
        for n in range(1, N_GRAMS + 1)
        for ngram in zip(*(islice(tokens, start, None) for start in range(n)), strict=False)
    )
