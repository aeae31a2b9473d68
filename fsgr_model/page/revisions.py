"""What the project's git knows by name: the working tree, branches, tags and experiments of DVC."""

import subprocess
from pathlib import Path

from fsgr_model.scoring.comparison import WORKSPACE

PLACES = ("refs/heads", "refs/tags", "refs/exps")
# What DVC keeps there for itself: runs under way, the queue, checkpoints of failed ones.
OF_DVC = ("refs/exps/exec/", "refs/exps/stash", "refs/exps/celery/")


def revisions(root: Path) -> list[str]:
    """Names of what may be compared, the working tree first; only that where there is no git.

    An experiment goes by its own name, as `dvc exp show` prints it.
    """
    command = ["git", "for-each-ref", "--format=%(refname)", "--sort=-committerdate", *PLACES]
    try:
        done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return [WORKSPACE]
    names = [_name(ref) for ref in done.stdout.splitlines() if not ref.startswith(OF_DVC)]
    return list(dict.fromkeys([WORKSPACE, *names]))


def _name(ref: str) -> str:
    """`refs/exps/ab/cdef/NAME` and `refs/heads/NAME`: the latter may have slashes."""
    parts = ref.split("/")
    return parts[-1] if parts[1] == "exps" else "/".join(parts[2:])
