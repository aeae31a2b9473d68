"""Clones of commits of this project, to run them beside each other."""

import subprocess
from pathlib import Path

from fsgr_model.runtime.errors import UserError


def full_name(commit: str) -> str:
    """The hash of a commit of this repository.

    Raises:
        UserError: there is no such commit.
    """
    command = ["git", "rev-parse", "--verify", "--quiet", f"{commit}^{{commit}}"]
    done = subprocess.run(command, capture_output=True, encoding="utf-8")
    if done.returncode:
        raise UserError(f"{commit!r} is no commit of this repository; fetch it (`git fetch --unshallow`)")
    return done.stdout.strip()


def clone_of(commit: str, place: Path) -> Path:
    """A clone of the project in the current folder, at a commit; `place`."""
    subprocess.run(["git", "clone", "--quiet", str(Path.cwd()), str(place)], check=True)
    subprocess.run(["git", "checkout", "--quiet", "--detach", commit], cwd=place, check=True)
    return place
