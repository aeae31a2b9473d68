"""The time of each stage of the demo pipeline in a fresh clone, one after the other.

    python -m bench.demo_profile

The clone is of the last commit, so what is not committed is not measured; nothing of DVC's cache is used.
Each stage runs by its own command of dvc.yaml: what DVC itself adds, hashing and saving, is not in the table.
"""

import argparse
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import yaml

from bench.clones import clone_of
from bench.limits import elapsed
from bench.rows import device_name
from fsgr_model.runtime.artifacts import save_json, whole_file
from fsgr_model.runtime.device import pick_device
from fsgr_model.runtime.errors import UserError, run_command

PAGE, RESULTS = Path("docs/experiments/demo_profile.md"), Path("bench/results/demo_profile.json")


@dataclass(frozen=True)
class Cost:
    """Seconds of a stage: on the clock, and of all processors together."""

    stage: str
    seconds: float
    processor: float


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--params", type=Path, help="parameter file to use instead of the committed one")
    parser.add_argument("--stages", nargs="+", help="only these, in this order")
    parser.add_argument("--out", type=Path, default=RESULTS, help="JSON (default: %(default)s)")
    parser.add_argument("--page", type=Path, default=PAGE, help="Markdown page (default: %(default)s)")
    given = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        clone = clone_of("HEAD", Path(folder) / "clone")
        if given.params:
            shutil.copy(given.params, clone / "params.yaml")
        costs = profile(clone, given.stages)
        named = ["git", "-C", str(clone), "rev-parse", "--short", "HEAD"]
        commit = subprocess.run(named, check=True, capture_output=True, encoding="utf-8").stdout.strip()
    page = markdown(costs, commit)
    print(page)
    with whole_file(given.page) as partial:
        partial.write_text(page + "\n", encoding="utf-8")
    save_json(
        given.out, {"device": device_name(pick_device()), "seconds": {c.stage: c.seconds for c in costs}}
    )


def profile(clone: Path, only: list[str] | None = None) -> list[Cost]:
    """Run the stages of a clone in the order of its dvc.yaml.

    Raises:
        UserError: a stage fails.
    """
    stages = yaml.safe_load((clone / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
    costs = []
    for stage in only or stages:
        before = os.times()
        seconds = elapsed(partial(run_stage, clone, stage, stages[stage]["cmd"]))
        after = os.times()
        spent = after.children_user + after.children_system - before.children_user - before.children_system
        costs.append(Cost(stage, seconds, spent))
    return costs


def run_stage(clone: Path, stage: str, command: str) -> None:
    """The stage's own command, with this Python.

    Raises:
        UserError: it fails; with the last of what it said.
    """
    words = [sys.executable if word == "python" else word for word in shlex.split(command)]
    environment = {**os.environ, "PYTHONPATH": str(clone), "DVC_ROOT": str(clone)}
    done = subprocess.run(words, cwd=clone, env=environment, capture_output=True, encoding="utf-8")
    if done.returncode:
        raise UserError(f"stage {stage} failed: {(done.stderr or done.stdout).strip()[-800:]}")


def markdown(costs: list[Cost], commit: str) -> str:
    """The page: a table of the stages of a commit and their sum."""
    total = sum(cost.seconds for cost in costs)
    lines = ["| stage | seconds | share | seconds of all processors |", "|---|---|---|---|"]
    lines += [
        f"| {cost.stage} | {cost.seconds:.1f} | {cost.seconds / total:.0%} | {cost.processor:.1f} |"
        for cost in costs
    ]
    lines.append(f"| all | {total:.1f} | 100% | {sum(cost.processor for cost in costs):.1f} |")
    head = (
        "# Where the demo's time goes\n\n"
        f"`python -m bench.demo_profile` on {device_name(pick_device())}: every stage in a fresh clone of "
        f"{commit}, without DVC's own hashing and saving.\n\n"
    )
    return head + "\n".join(lines)


if __name__ == "__main__":
    run_command(main)
