"""Reads word lists of other toolkits: their words keep their order and get new ids.

- self-critical.pytorch and its like write `ix_to_word` into cocotalk.json: `{"1": "a", ..., "9487": "UNK"}`,
  id 0 ends a caption (github.com/ruotianluo/self-critical.pytorch, scripts/prepro_labels.py);
- a-PyTorch-Tutorial-to-Image-Captioning writes WORDMAP_*.json: `{"a": 1, ..., "<unk>": 9487, "<start>": 9488,
  "<end>": 9489, "<pad>": 0}` (github.com/sgrvinod/a-PyTorch-Tutorial-to-Image-Captioning, utils.py).

The ids must change, since ours begin with `<unk>`, `<pad>`, `<bos>` and `<eos>`; their special words are left
out.
"""

import re
from pathlib import Path
from typing import Any

from fsgr_model.config.text_params import Segmenter
from fsgr_model.runtime.artifacts import load_json
from fsgr_model.runtime.checked_json import checked
from fsgr_model.runtime.errors import UserError
from fsgr_model.runtime.listing import listed
from fsgr_model.text.vocabulary import SPECIALS, Vocabulary

# Their special words are in brackets, or UNK in capitals; no token of a caption has this form.
SPECIAL = re.compile(
    r"UNK|<(?:unk|pad|start|end|bos|eos|sos|s|/s|start_?of_?seq(?:uence)?|end_?of_?seq(?:uence)?)>|"
    r"<(?:UNK|PAD|START|END|BOS|EOS|SOS|S|/S)>"
)
NUMBER = re.compile(r"[0-9]{1,9}")


def import_words(path: Path, segmenter: Segmenter = "ptb") -> tuple[Vocabulary, str]:
    """Read a word list of this project or another toolkit; also say what was changed (empty for our own).

    Raises:
        UserError: the file is missing or malformed, gives two words the same id, or one word two ids; or it
            is ours and names another tokenizer than `segmenter`.
    """
    found = load_json(path)
    word_of = _words_by_id(found, path)
    if word_of is None:
        return _ours(path, found, segmenter), ""
    theirs = [word_of[number] for number in sorted(word_of)]
    left_out = [word for word in theirs if SPECIAL.fullmatch(word)]
    try:
        vocabulary = Vocabulary([*SPECIALS, *(word for word in theirs if word not in left_out)], segmenter)
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    return vocabulary, (
        f"{len(theirs)} words, in their order under new ids from {len(SPECIALS)} on; left out, for ours "
        f"stand in their place: {listed(left_out) or 'none'}"
    )


def _ours(path: Path, found: Any, segmenter: Segmenter) -> Vocabulary:
    """A list that names no tokenizer may be of any."""
    vocabulary = Vocabulary.load(path)
    if isinstance(found, dict) and "tokenizer" in found and vocabulary.segmenter != segmenter:
        raise UserError(
            f"{path}: its words were made by tokenizer {vocabulary.segmenter}, and text.tokenizer is "
            f"{segmenter}; set it to the former, or name another list"
        )
    return Vocabulary(vocabulary.words, segmenter)


def _words_by_id(found: Any, path: Path) -> dict[int, str] | None:
    """The words of another toolkit by their ids there; None for a list of ours."""
    if not isinstance(found, dict) or not found or "itos" in found:
        return None
    if "ix_to_word" in found:
        by_text = checked(found["ix_to_word"], dict[str, str], path)
        odd = [each for each in by_text if not NUMBER.fullmatch(each)]
        if odd:
            raise UserError(f"{path}: ids in `ix_to_word` must be whole numbers; found {listed(odd)}")
        return _unique(path, [(int(each), word) for each, word in by_text.items()])
    if all(type(number) is int for number in found.values()):
        return _unique(path, [(number, word) for word, number in found.items()])
    return None


def _unique(path: Path, pairs: list[tuple[int, str]]) -> dict[int, str]:
    word_of: dict[int, str] = {}
    for number, word in pairs:
        if word_of.setdefault(number, word) != word:
            raise UserError(
                f"{path}: {word_of[number]!r} and {word!r} have the same id, {number}; give each word its own"
            )
    return word_of
