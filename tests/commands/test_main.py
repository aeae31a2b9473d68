"""`fsgr COMMAND`: help, versions, and what is told of a command that there is not."""

import runpy
import subprocess
import sys

import pytest

from fsgr_model import __main__ as main_module
from fsgr_model import __version__
from tests.listings.rooms import PACKAGE, ROOT


def fsgr(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "fsgr_model", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def in_process(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> object:
    """The exit code."""
    monkeypatch.setattr(sys, "argv", ["fsgr", *arguments])
    with pytest.raises(SystemExit) as ended:
        runpy.run_module("fsgr_model", run_name="__main__")
    return ended.value.code


def test_help_names_every_command_and_imports_no_pytorch() -> None:
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "fsgr_model", "--help"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0 and "torch" not in done.stderr
    for name, what in main_module.COMMANDS.items():
        assert name in done.stdout and what in done.stdout


def test_the_commands_are_the_modules_of_their_room() -> None:
    """But for the parts of `caption` that do the work."""
    modules = {path.stem for path in (PACKAGE / "commands").glob("*.py")} - {"__init__"}
    modules -= {"caption_files", "bulk", "bulk_file", "bulk_workers"}
    assert modules == set(main_module.COMMANDS)


@pytest.mark.parametrize("name", [*main_module.COMMANDS, *main_module.FORMER_NAMES])
def test_every_command_has_help(name: str, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    assert in_process(monkeypatch, name, "--help") == 0
    named = main_module.FORMER_NAMES.get(name, name)
    assert capsys.readouterr().out.startswith(f"usage: fsgr {named}")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["captoin"], "fsgr: there is no command 'captoin'; did you mean caption?"),
        (["xyz"], "fsgr: there is no command 'xyz'\n"),
    ],
)
def test_what_is_no_command(arguments, said, monkeypatch, capsys) -> None:
    assert in_process(monkeypatch, *arguments) == 2
    told = capsys.readouterr().err
    assert told.startswith(said) and "usage: fsgr COMMAND" in told


def test_without_arguments_it_says_what_it_can_do(monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    monkeypatch.setattr(sys, "argv", ["fsgr"])
    runpy.run_module("fsgr_model", run_name="__main__")
    said = capsys.readouterr()
    assert said.out == f"{main_module.usage()}\n" and not said.err
    assert "fsgr page --model FOLDER" in said.out


def test_the_former_name_still_writes_results(monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    assert in_process(monkeypatch, "export_results", "--help") == 0
    assert capsys.readouterr().out.startswith("usage: fsgr results [-h]")


def test_the_version() -> None:
    assert fsgr("--version").stdout == f"fsgr {__version__}\n"
