"""Small worlds that tests of several rooms share: a CLIP, a captioner's data, a project that has run."""

import os

import pytest

pytest_plugins = ("tests.worlds.clip", "tests.worlds.captioner", "tests.worlds.project")


def pytest_configure(config: pytest.Config) -> None:
    """Tests are of the CPU, whose numbers they know, but for those marked `gpu`: make test-gpu."""
    if config.option.markexpr.strip() != "gpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
