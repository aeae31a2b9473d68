"""Whether the committed dvc.lock is of the committed code: python -m tests.listings.lock (make release-check)

Asks DVC in a clone without data, so that nothing that lies in the workspace can hide a difference. Each stage
that would run again is named with what differs from the lock. Exit code 1 if there is one.
"""

import argparse
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from tests.listings.stage_deps import ROOT, output_paths, stages

WOULD_RUN = re.compile(r"^Running stage '([^']+)'", re.MULTILINE)
# What DVC says of data that are only elsewhere.
ELSEWHERE = {"deleted", "not in cache"}


def faults(project: Path) -> Iterator[str]:
    """A line for each stage of a clone without data that is not of its lock."""
    dry = _dvc(project, "repro", "--dry", "--allow-missing", "--no-run-cache")
    told = json.loads(_dvc(project, "status", "--json"))
    every = stages((project / "dvc.yaml").read_text(encoding="utf-8"))
    made = {path for stage in every.values() for path in output_paths(stage)}
    would_run = set(WOULD_RUN.findall(dry))
    for name, stage in every.items():
        lost = [
            dep
            for dep in stage["deps"]
            if "$" not in dep and dep not in made and not (project / dep).exists()
        ]
        if name in would_run or lost:
            found = [*(f"{dep}: not in git" for dep in lost), *reasons(told.get(name, []))]
            yield f"{name}: {'; '.join(found) or 'what it reads is another output than its stage made'}"


def reasons(told: list[Any]) -> Iterator[str]:
    """What `dvc status --json` says of a stage, less the data that are only elsewhere."""
    for entry in told:
        if isinstance(entry, str):
            yield entry
            continue
        for files in entry.values():
            for name, what in files.items():
                if isinstance(what, dict):
                    yield from (f"{parameter}: {how}" for parameter, how in what.items())
                elif what not in ELSEWHERE:
                    yield f"{name}: {what}"


def _dvc(project: Path, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "dvc", *arguments], cwd=project, capture_output=True, text=True, check=False
    )
    if done.returncode:
        sys.exit(f"dvc {' '.join(arguments)} failed in a clone without data:\n{done.stdout}{done.stderr}")
    return done.stdout


def main() -> None:
    argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    ).parse_args()
    with TemporaryDirectory() as folder:
        clone = Path(folder) / "clone"
        subprocess.run(["git", "clone", "--quiet", str(ROOT), str(clone)], check=True)
        found = list(faults(clone))
    if found:
        sys.exit(
            "\n".join(["dvc.lock is not of this commit; run dvc repro and commit what it changes:", *found])
        )
    print("dvc.lock is of this commit: no stage would run again")


if __name__ == "__main__":
    main()
