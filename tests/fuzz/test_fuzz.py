"""A short run of the fuzzer in every test run; `python -m bench.fuzz --cases 100000` is the long one."""

from pathlib import Path

import pytest

from tests.fuzz.fuzz import fuzz
from tests.fuzz.targets import TARGETS, Target, cases_of

CASES = 2_000


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.name)
def test_a_damaged_file_is_read_or_refused(target: Target, tmp_path: Path) -> None:
    cases = cases_of(target, CASES)
    assert fuzz(target, cases, seed=0, folder=tmp_path / "files").cases >= cases


def test_a_reader_that_crashes_is_found(tmp_path: Path) -> None:
    """The fuzzer itself: a reader that takes for granted that there is a first byte."""
    target = Target(
        "careless",
        TARGETS[0].prepare,
        lambda path: (path.read_bytes() + b"x")[:9].index(b"x"),
        TARGETS[0].cases,
    )
    with pytest.raises(ValueError):
        fuzz(target, 500, seed=0, folder=tmp_path / "files")
