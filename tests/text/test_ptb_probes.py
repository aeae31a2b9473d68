"""Our own tokenizer against the table of Stanford's answers to probes of every mark, sign and script."""

import unicodedata

import pytest

from fsgr_model.text.character_kinds import DIGIT, LETTER, MARK, NOTHING, in_kinds, is_known
from fsgr_model.text.ptb_tokenizer import ptb_tokenize
from tests.text import ptb_probes

# Probes that our tokenizer may answer otherwise; docs/explanation/tokens.md would give the reason of each.
ALLOWED: frozenset[str] = frozenset()
# Letters and digits that Unicode 15 to 17 put into the BMP.
NEWER = "\u088f\u0c5c\u0cdc\u1c89\u1c8a\ua7cb\ua7cc\ua7cd\ua7ce\ua7cf\ua7d2\ua7d4\ua7da\ua7db\ua7dc\ua7f1"


@pytest.mark.skipif(unicodedata.unidata_version != ptb_probes.UNICODE, reason="other tables of Unicode")
def test_the_table_has_every_probe() -> None:
    head, rows = ptb_probes.read_table()
    assert head.startswith(f"Unicode {ptb_probes.UNICODE}")
    assert [probe for probe, _ in rows] == ptb_probes.probes()


def test_our_answers_are_the_same() -> None:
    _, rows = ptb_probes.read_table()
    differ = {probe for probe, answer in rows if " ".join(ptb_tokenize(probe)) != answer}
    assert differ == ALLOWED


@pytest.mark.parametrize("character", NEWER)
def test_letters_of_a_newer_unicode_stay_unknown(character: str) -> None:
    """The program drops them; a newer Python, which knows them for letters, must not change any token."""
    assert not is_known(ord(character)) and in_kinds(character) == NOTHING


def test_kinds_follow_unicode_in_known_scripts() -> None:
    assert in_kinds("কुλéД日한ጀ") == LETTER + MARK + LETTER * 6
    assert in_kinds("٣३৩๓３") == DIGIT * 5


@pytest.mark.java
def test_the_table_is_what_the_program_says() -> None:
    _, rows = ptb_probes.read_table()
    lines = [probe for probe, _ in rows]
    assert ptb_probes.java_answers(lines) == [answer for _, answer in rows]
