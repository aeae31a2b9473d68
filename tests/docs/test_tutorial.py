"""The commands of docs/tutorial.md, run as printed in a small copy of the project."""

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.dvc_trials import TINY, repository
from bench.scratch import Scratch

PAGE = (Path(__file__).parents[2] / "docs" / "tutorial.md").read_text(encoding="utf-8")
COMMANDS = [
    command
    for block in re.findall(r"^```\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    for command in block.splitlines()
]
# What the page's reader has and this test has not, or the reverse.
INSTEAD = {
    "make repro": "dvc repro && python -m fsgr_model standing",
    "source .venv/bin/activate": "true",
    "git commit --all --message": "git add --all && git commit --all --message",
    # In the background it would outlive the test.
    "dvc queue start": "dvc exp run --run-all",
    "data/dataset/images/004201.png": "data/dataset/images/000031.png",
}
# Four experiments of a grid come to the same end as two.
SMALLER = {"-S decode.max_length=8,12": "-S decode.max_length=8"}


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Scratch]:
    scratch = repository(tmp_path / "project", TINY | {"xe.epochs": 2})
    yield scratch
    shutil.rmtree(tmp_path / "project")


def test_the_page_has_the_commands_that_are_replaced() -> None:
    assert all(any(said in command for command in COMMANDS) for said in INSTEAD)


@pytest.mark.slow
def test_the_tutorial_runs_as_printed(project: Scratch) -> None:
    for command in COMMANDS:
        shown = command
        for said, done in (INSTEAD | SMALLER).items():
            shown = shown.replace(said, done)
        ended = project.run("bash", "-c", shown, check=False)
        assert ended.returncode == 0, f"{shown}\n{ended.stdout[-2000:]}\n{ended.stderr[-4000:]}"
    assert len(list((project.folder / "sheets").iterdir())) == 1
    assert (project.folder / "model" / "README.md").is_file()
    listed = project.run("dvc", "exp", "show", "--csv").stdout
    assert "slow" in listed and "greedy" not in listed
    assert project.run("dvc", "queue", "status").stdout.count("Success") == 2
