"""`make` installs the project itself after its requirements, so that `fsgr` is there for every target."""

import subprocess

import pytest

from tests.listings.rooms import ROOT


@pytest.mark.parametrize(
    ("target", "last"), [("repro", "fsgr standing"), ("test", "-m pytest"), ("check", "/mypy")]
)
def test_an_environment_has_the_project_itself(target: str, last: str) -> None:
    command = ["make", "--dry-run", "--always-make", target]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    requirements, project, use = (
        done.stdout.index(part) for part in ("--requirement requirements.txt", "--editable .\n", last)
    )
    assert requirements < project < use
    assert "--no-deps --editable .\n" in done.stdout
