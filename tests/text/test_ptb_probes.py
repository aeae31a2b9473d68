"""The table of Stanford's answers to probes of every mark, sign and script: a goal for our own tokenizer."""

import unicodedata

import pytest

from tests.text import ptb_probes


@pytest.mark.skipif(unicodedata.unidata_version != ptb_probes.UNICODE, reason="other tables of Unicode")
def test_the_table_has_every_probe() -> None:
    head, rows = ptb_probes.read_table()
    assert head.startswith(f"Unicode {ptb_probes.UNICODE}")
    assert [probe for probe, _ in rows] == ptb_probes.probes()


@pytest.mark.java
def test_the_table_is_what_the_program_says() -> None:
    _, rows = ptb_probes.read_table()
    lines = [probe for probe, _ in rows]
    assert ptb_probes.java_answers(lines) == [answer for _, answer in rows]
