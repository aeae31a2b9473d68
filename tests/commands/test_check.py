"""`python -m fsgr_model check` from the command line: last words and exit code."""

import sys
from pathlib import Path

import pytest

from fsgr_model.__main__ import main
from fsgr_model.commands import check
from tests.checkup.conftest import Project
from tests.worlds.commands import run_here

ROOT = Path(__file__).parents[2]


def test_the_demo_is_ready() -> None:
    done = run_here(main, "check", "--no-timing", folder=ROOT)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[-1].startswith("yes: ")


def failing(params: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["check", "--no-timing", "--params", str(params)])
    with pytest.raises(SystemExit) as stopped:
        check.main()
    assert stopped.value.code == 1


def test_a_list_of_things_to_fix(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    project = Project(tmp_path)
    project.values["codebook"]["concepts"] = "nowhere.txt"
    (project.small.root / "images" / "11.png").unlink()
    monkeypatch.chdir(ROOT)
    failing(project.params_file, monkeypatch)
    verdict, first, second = capsys.readouterr().out.splitlines()[-3:]
    assert verdict == "no: 2 things to fix" and first.startswith("1. ") and second.startswith("2. ")


def test_a_missing_parameter_file(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    failing(Path("nowhere.yaml"), monkeypatch)
    assert capsys.readouterr().out.splitlines()[0] == "no: 1 thing to fix"
