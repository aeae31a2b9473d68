"""Whether the committed dvc.lock is of the committed code: python -m tests.listings.lock (make release-check)

Asks DVC in a clone without data, so that nothing that lies in the workspace can hide a difference. Each stage
that would run again is named with what differs from the lock. Exit code 1 if there is one.

`dvc repro --dry --allow-missing` asks the same, but at the first such stage it ends with an error of the
system, since it looks for data that are elsewhere (DVC 3.67), and it says of no stage what has changed.
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import yaml

from tests.listings.stage_deps import ROOT, output_paths, stages

# What DVC says of data that are only elsewhere.
ELSEWHERE = {"deleted", "not in cache"}


def faults(project: Path) -> Iterator[str]:
    """A line for each stage of a clone without data that is not of its lock."""
    every = stages((project / "dvc.yaml").read_text(encoding="utf-8"))
    lock: dict[str, Any] = yaml.safe_load((project / "dvc.lock").read_text(encoding="utf-8"))["stages"]
    told = status(project)
    for name in every.keys() | lock.keys():
        if name not in lock or name not in every:
            yield f"{name}: not in {'dvc.yaml' if name in lock else 'dvc.lock'}"
        elif found := [
            *not_in_git(project, name, every),
            *made_anew(name, lock),
            *changes(told.get(name, [])),
        ]:
            yield f"{name}: {'; '.join(found)}"


def not_in_git(project: Path, name: str, every: dict[str, dict]) -> Iterator[str]:
    """Dependencies that no stage makes and a clone has not; DVC takes them for data that are elsewhere."""
    made = [path for stage in every.values() for path in output_paths(stage)]
    for dep in every[name]["deps"]:
        is_made = any(path == dep or path.startswith(f"{dep}/") for path in made)
        if not (is_made or "$" in dep or (project / dep).exists()):
            yield f"{dep}: not in git"


def made_anew(name: str, lock: dict[str, Any]) -> Iterator[str]:
    """Dependencies of which the lock has another hash where they are outputs."""
    hashes = {out["path"]: out["md5"] for stage in lock.values() for out in stage["outs"]}
    for dep in lock[name]["deps"]:
        if hashes.get(dep["path"], dep["md5"]) != dep["md5"]:
            yield f"{dep['path']}: another one was made since"


def changes(told: list[Any]) -> Iterator[str]:
    """What `dvc status --json` says of a stage, less the data that are only elsewhere."""
    for entry in told:
        if isinstance(entry, str):
            yield entry
            continue
        for files in entry.values():
            for path, what in files.items():
                if isinstance(what, dict):
                    yield from (f"{parameter}: {how}" for parameter, how in what.items())
                elif what not in ELSEWHERE:
                    yield f"{path}: {what}"


def status(project: Path) -> dict[str, list[Any]]:
    """What DVC says of each stage that differs from the lock."""
    done = subprocess.run(
        [sys.executable, "-m", "dvc", "status", "--json"],
        cwd=project,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        sys.exit(f"dvc status failed in a clone without data:\n{done.stdout}{done.stderr}")
    return json.loads(done.stdout)


def main() -> None:
    argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    ).parse_args()
    with TemporaryDirectory() as folder:
        clone = Path(folder) / "clone"
        subprocess.run(["git", "clone", "--quiet", str(ROOT), str(clone)], check=True)
        found = sorted(faults(clone))
    if found:
        head = "dvc.lock is not of this commit; run dvc repro and commit what it changes:"
        sys.exit("\n".join([head, *found]))
    print("dvc.lock is of this commit: no stage would run again")


if __name__ == "__main__":
    main()
