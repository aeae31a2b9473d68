"""Runs a target on damaged files: whatever a file holds, it is read or refused by a UserError of one line."""

import io
import time
import warnings
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import seed as with_seed

from fsgr_model.runtime.errors import UserError
from tests.fuzz.targets import Target


@dataclass
class Count:
    """How many files were tried, how many of them were refused, and the seconds that the slowest one took."""

    cases: int = 0
    refused: int = 0
    slowest: float = 0.0


def fuzz(target: Target, cases: int, seed: int, folder: Path) -> Count:
    """Try `cases` damaged files; the first that breaks the rule is made small and raised.

    Raises:
        Whatever the reader raises that is no UserError.
    """
    place = target.prepare(folder)
    whole = place.read_bytes()
    count = Count()

    @with_seed(seed)
    @settings(
        max_examples=cases,
        deadline=None,
        database=None,
        phases=[Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
    )
    @given(data=target.cases(whole))
    def try_one(data: bytes) -> None:
        place.write_bytes(data)
        start = time.perf_counter()
        count.refused += _refused(target, place)
        count.slowest = max(count.slowest, time.perf_counter() - start)
        count.cases += 1

    with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()), warnings.catch_warnings():
        # Pillow warns of much that it can read nevertheless.
        warnings.simplefilter("ignore")
        target.read(place)
        try_one()
    return count


def _refused(target: Target, place: Path) -> bool:
    try:
        target.read(place)
    except UserError as error:
        assert str(error) and "\n" not in str(error)
        return True
    return False
