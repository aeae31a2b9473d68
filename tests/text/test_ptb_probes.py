"""Our PTB tokenizer against Stanford's answers to probes of every mark, sign and script."""

import unicodedata

import pytest

from fsgr_model.text.ptb_tokenizer import ptb_tokenize
from tests.text import ptb_probes

MOST_DIFFERENT = 0.005


def different(rows: list[tuple[str, str]]) -> list[tuple[str, str]]:
    return [(probe, answer) for probe, answer in rows if " ".join(ptb_tokenize(probe)) != answer]


def test_the_answers_of_the_table() -> None:
    head, rows = ptb_probes.read_table()
    assert head.startswith(f"Unicode {ptb_probes.UNICODE}")
    assert len(rows) > 25_000
    assert different(rows) == [], f"more than {MOST_DIFFERENT:.1%} may not differ, and docs would list each"


def test_a_tokenizer_that_cuts_at_marks_would_be_seen() -> None:
    _, rows = ptb_probes.read_table()
    cut = [(probe, answer) for probe, answer in rows if " ".join(probe.lower().split()) != answer]
    assert len(cut) > 5_000


@pytest.mark.skipif(unicodedata.unidata_version != ptb_probes.UNICODE, reason="other tables of Unicode")
def test_the_table_has_every_probe() -> None:
    _, rows = ptb_probes.read_table()
    assert [probe for probe, _ in rows] == ptb_probes.probes()


@pytest.mark.java
def test_the_table_is_what_the_program_says() -> None:
    _, rows = ptb_probes.read_table()
    lines = [probe for probe, _ in rows]
    assert ptb_probes.java_answers(lines) == [answer for _, answer in rows]
