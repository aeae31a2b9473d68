"""Small worlds that tests of several rooms share: a CLIP, a captioner's data, a project that has run."""

import os
import signal
from collections.abc import Iterator

import pytest

pytest_plugins = ("tests.worlds.clip", "tests.worlds.captioner", "tests.worlds.project")


def pytest_configure(config: pytest.Config) -> None:
    """Tests are of the CPU, whose numbers they know, but for those marked `gpu`: make test-gpu."""
    if config.option.markexpr.strip() != "gpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""


@pytest.fixture(autouse=True)
def signals_as_they_were() -> Iterator[None]:
    """What a test leaves of its signals could end the process within another one, without a word."""
    numbers = (signal.SIGPIPE, signal.SIGALRM, signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
    before = [signal.getsignal(number) for number in numbers]
    yield
    assert [signal.getsignal(number) for number in numbers] == before
    assert signal.getitimer(signal.ITIMER_REAL) == (0, 0)
