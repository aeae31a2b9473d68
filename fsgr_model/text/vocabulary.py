"""The word list: `<unk>` 0, `<pad>` 1, `<bos>` 2, `<eos>` 3, then words by falling frequency, then alphabet.

Shapes: V words, E CLIP joint width.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch
from torch import Tensor

from fsgr_model.config.text_params import Segmenter
from fsgr_model.runtime.artifacts import fingerprint, load_json, save_json
from fsgr_model.runtime.errors import UserError
from fsgr_model.runtime.tensor_file import load_tensors, save_tensors
from fsgr_model.text.caption_table import CaptionTable, WordTable, places
from fsgr_model.text.segmenters import join

UNK, PAD, BOS, EOS = range(4)
SPECIALS = ("<unk>", "<pad>", "<bos>", "<eos>")


def _places(words: Sequence[str]) -> str:
    """`<pad> at 0, no <unk>, ...`"""
    return ", ".join(f"{word} at {words.index(word)}" if word in words else f"no {word}" for word in SPECIALS)


class Vocabulary:
    """Words and their ids; the four special words come first. `segmenter` made them, and joins them again.

    Raises:
        UserError: the list does not begin with the special words, or holds a word twice.
    """

    def __init__(self, words: Sequence[str], segmenter: Segmenter = "ptb") -> None:
        if tuple(words[:4]) != SPECIALS:
            raise UserError(
                f"a word list must begin with {', '.join(SPECIALS)}, ids 0 to 3; it begins with "
                f"{list(words[:4])} and has {_places(words)}"
            )
        repeated = [word for word, count in Counter(words).items() if count > 1]
        if repeated:
            raise UserError(f"a word list must hold every word once; these are repeated: {repeated[:10]}")
        self.words, self.segmenter = list(words), segmenter
        self._id_of = {word: number for number, word in enumerate(self.words)}

    def __len__(self) -> int:
        return len(self.words)

    def __contains__(self, word: str) -> bool:
        return word in self._id_of

    @property
    def fingerprint(self) -> str:
        """16 hex digits that identify the words and their order."""
        return fingerprint(self.words)

    def encode(self, tokens: Sequence[str], max_length: int) -> list[int]:
        """`<bos>`, the ids of at most `max_length` words (`<unk>` for those not in the list), `<eos>`."""
        return [BOS, *(self._id_of.get(token, UNK) for token in tokens[:max_length]), EOS]

    def encode_table(self, captions: WordTable, max_length: int | None = None) -> CaptionTable:
        """Every caption of every image, as `encode` returns it; None: all of its words."""
        table = captions.table
        id_W = np.array([self._id_of.get(word, UNK) for word in captions.words], dtype=np.int32)
        words_C = table.words_C if max_length is None else np.minimum(table.words_C, max_length)
        bos_C = np.cumsum(words_C + 2) - (words_C + 2)
        word_F = np.full(int((words_C + 2).sum()), BOS, dtype=np.int32)
        word_F[places(bos_C + 1, words_C)] = id_W[table.word_F[places(table.word_start[:-1], words_C)]]
        word_F[bos_C + words_C + 1] = EOS
        return CaptionTable(table.image_ids, captions_A=table.captions_A, words_C=words_C + 2, word_F=word_F)

    def encode_open(self, tokens: Sequence[str], unlisted: dict[str, int]) -> list[int]:
        """Ids of all words as the metrics see them, split at any space; no special words are added.

        A word that is not in the list gets an id of its own from `len(self)` on, kept in `unlisted`: equal
        words get equal ids, which differ from those of all listed words.
        """
        ids = []
        for word in " ".join(tokens).split():
            number = self._id_of.get(word)
            ids.append(unlisted.setdefault(word, len(self) + len(unlisted)) if number is None else number)
        return ids

    def decode(self, ids: Iterable[int]) -> str:
        """Words up to the first `<eos>`, joined as `segmenter` wants; without `<bos>` and `<pad>`."""
        words = []
        for number in ids:
            if number == EOS:
                break
            if number not in (BOS, PAD):
                words.append(self.words[number])
        return join(words, self.segmenter)

    def save(self, path: Path) -> None:
        """Write a JSON list of the words in the order of their ids, beside `tokenizer` if that is not ptb."""
        plain = self.segmenter == "ptb"
        save_json(path, self.words if plain else {"tokenizer": self.segmenter, "itos": self.words})

    @classmethod
    def load(cls, path: Path) -> "Vocabulary":
        """Read a JSON list of words, or an object with such a list as `itos`. Every word keeps its id.

        Raises:
            UserError: the file is missing or malformed, its words break the rules of a word list, the `stoi`
                of an object gives other ids than the positions in its list, or its `tokenizer` is unknown.
        """
        found = load_json(path)
        words = found.get("itos") if isinstance(found, dict) else found
        segmenter: Any = found.get("tokenizer", "ptb") if isinstance(found, dict) else "ptb"
        if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
            raise UserError(f"{path} must be a JSON list of words (or have one as `itos`)")
        if segmenter not in get_args(Segmenter):
            raise UserError(
                f"{path}: `tokenizer` must be one of {', '.join(get_args(Segmenter))}; found {segmenter!r}"
            )
        try:
            vocabulary = cls(words, segmenter)
        except UserError as error:
            raise UserError(f"{path}: {error}") from None
        if isinstance(found, dict) and found.get("stoi", vocabulary._id_of) != vocabulary._id_of:
            raise UserError(f"{path}: `stoi` gives other ids than the positions in `itos`; correct it")
        return vocabulary


def build_vocabulary(counts: Mapping[str, int], min_count: int, segmenter: Segmenter = "ptb") -> Vocabulary:
    """The words that occur at least `min_count` times, from the words with their counts.

    Raises:
        UserError: no word occurs that often.
    """
    kept = [word for word, count in counts.items() if count >= min_count and word not in SPECIALS]
    if not kept:
        raise UserError(
            f"no word occurs {min_count} times in the captions that count (of {len(counts)} different "
            "words); lower vocab.min_count"
        )
    return Vocabulary([*SPECIALS, *sorted(kept, key=lambda word: (-counts[word], word))], segmenter)


def save_word_embeddings(path: Path, vocabulary: Vocabulary, embeddings_VE: Tensor) -> None:
    """Write the vectors, float32 [V, E], with the fingerprint of the words that they belong to."""
    if len(embeddings_VE) != len(vocabulary):
        raise ValueError(f"{len(embeddings_VE)} vectors for {len(vocabulary)} words")
    save_tensors(path, {"embeddings": embeddings_VE.float()}, {"words": vocabulary.fingerprint})


def load_word_embeddings(path: Path, vocabulary: Vocabulary) -> Tensor:
    """Vectors of exactly these words: float32 [V, E] on the CPU.

    Raises:
        UserError: the file is missing or damaged, holds another number of vectors than there are words, or
            vectors of other words (or of the same words in another order).
    """
    tensors, facts = load_tensors(path, "run dvc repro -f vocab")
    embeddings_VE, words = tensors["embeddings"], facts["words"]
    if len(embeddings_VE) != len(vocabulary):
        raise UserError(
            f"{path} holds {len(embeddings_VE)} word vectors, but the word list has {len(vocabulary)} words; "
            "run dvc repro vocab"
        )
    if words != vocabulary.fingerprint:
        raise UserError(
            f"{path} holds vectors of other words: fingerprint {words}, but the word list has "
            f"{vocabulary.fingerprint}; run dvc repro vocab"
        )
    return embeddings_VE.to(torch.float32)
