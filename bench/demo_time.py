"""The whole demo, `dvc repro` in a fresh clone, beside that of an older commit, in turns.

    python -m bench.demo_time --against 7618f21 --rounds 3 --page FILE.md

Both are clones of commits, so what is not committed is not measured. Each round clones both anew, so that
nothing is in DVC's cache, and the one that was first in a round is second in the next. The seconds of a stage
include what DVC does with it, hashing and saving; nothing else should run on the machine meanwhile.
"""

import argparse
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from bench.clones import clone_of, full_name
from bench.rows import device_name
from fsgr_model.runtime.artifacts import save_json, whole_file
from fsgr_model.runtime.device import pick_device
from fsgr_model.runtime.errors import UserError, run_command

STAGE = re.compile(r"Running stage '(\w+)'")
# What DVC does before its first stage.
START = "start of DVC"
SHOWN_ON_FAILURE = 12


@dataclass(frozen=True)
class Run:
    """A `dvc repro`: seconds on the clock, of all processors together, and on the clock of each stage."""

    commit: str
    seconds: float
    processor: float
    stages: dict[str, float]


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--against", metavar="COMMIT", required=True, help="the commit to compare with")
    parser.add_argument("--commit", default="HEAD", help="the commit that is compared (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="pairs of runs (default: %(default)s)")
    parser.add_argument(
        "--out", type=Path, metavar="FILE", help="write the seconds of every run there, as JSON"
    )
    parser.add_argument(
        "--page", type=Path, metavar="FILE", help="write the printed table there, as Markdown"
    )
    given = parser.parse_args(arguments)
    older, newer = (full_name(name) for name in (given.against, given.commit))
    pairs = [measure_pair(older, newer, turned=bool(number % 2)) for number in range(given.rounds)]
    page = markdown(pairs)
    print(page)
    if given.page:
        with whole_file(given.page) as partial:
            partial.write_text(page + "\n", encoding="utf-8")
    if given.out:
        rows = [{"before": asdict(before), "after": asdict(after)} for before, after in pairs]
        save_json(given.out, {"device": device_name(pick_device()), "pairs": rows})


def measure_pair(older: str, newer: str, *, turned: bool) -> tuple[Run, Run]:
    """A run of each, the older one first unless `turned`; returned in the order older, newer."""
    runs = {commit: reproduce(commit) for commit in ((newer, older) if turned else (older, newer))}
    return runs[older], runs[newer]


def reproduce(commit: str) -> Run:
    """Clone a commit, and run its whole pipeline in the clone with this Python.

    Raises:
        UserError: `dvc repro` fails; with the last of what it said.
    """
    with tempfile.TemporaryDirectory() as folder:
        clone = clone_of(commit, Path(folder) / "clone")
        before, start = os.times(), time.perf_counter()
        lines = timed_lines([sys.executable, "-m", "dvc", "repro"], clone)
        seconds, after = time.perf_counter() - start, os.times()
    spent = after.children_user + after.children_system - before.children_user - before.children_system
    return Run(commit, seconds, spent, stage_seconds(lines, start=start, end=start + seconds))


def timed_lines(command: Sequence[str], folder: Path) -> list[tuple[float, str]]:
    """What a command says, each line with the time at which it came.

    Raises:
        UserError: the command fails.
    """
    environment = {name: value for name, value in os.environ.items() if name != "DVC_ROOT"}
    environment |= {"PYTHONUNBUFFERED": "1", "PYTHONPATH": str(folder)}
    environment["PATH"] = f"{Path(sys.executable).parent}:{environment['PATH']}"
    said: list[tuple[float, str]] = []
    with subprocess.Popen(
        command,
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
    ) as process:
        assert process.stdout is not None, "it was asked for"
        said.extend((time.perf_counter(), line) for line in process.stdout)
    if process.returncode:
        last = "".join(line for _, line in said[-SHOWN_ON_FAILURE:]).strip()
        raise UserError(f"{' '.join(command)} failed in a clone of the commit: {last}")
    return said


def stage_seconds(lines: Iterable[tuple[float, str]], *, start: float, end: float) -> dict[str, float]:
    """Seconds of each stage, from its first line to that of the next one, in the order of the run."""
    starts = [(START, start)]
    starts += [(found[1], at) for at, line in lines if (found := STAGE.match(line))]
    ends = [at for _, at in starts[1:]] + [end]
    return {name: until - at for (name, at), until in zip(starts, ends, strict=True)}


def markdown(pairs: Sequence[tuple[Run, Run]]) -> str:
    """The page: medians of each stage and of all, and the ratios of the pairs."""
    before, after = pairs[0]
    ratios = [new.seconds / old.seconds for old, new in pairs]
    processor = [new.processor / old.processor for old, new in pairs]
    lines = [
        "# The demo's whole run, before and after",
        "",
        f"`python -m bench.demo_time --against {before.commit[:7]} --rounds {len(pairs)}` on "
        f"{device_name(pick_device())}: `dvc repro` in fresh clones of {before.commit[:7]} (before) and "
        f"{after.commit[:7]} (after) in turns. Seconds are medians; those of a stage "
        "include DVC's hashing and saving.",
        "",
        "| stage | before | after | ratio |",
        "|---|---|---|---|",
    ]
    for stage in dict.fromkeys([*before.stages, *after.stages]):
        lines.append(_row(stage, *(_median(side, stage) for side in zip(*pairs, strict=True))))
    medians = [[statistics.median(run.seconds for run in side) for side in zip(*pairs, strict=True)]]
    medians += [[statistics.median(run.processor for run in side) for side in zip(*pairs, strict=True)]]
    lines += [_row("**all**", *medians[0]), _row("all, of all processors", *medians[1]), ""]
    lines.append(f"Ratios of the pairs: {_range(ratios)}; of processor time: {_range(processor)}.")
    return "\n".join(lines)


def _median(runs: Sequence[Run], stage: str) -> float:
    return statistics.median(run.stages.get(stage, 0.0) for run in runs)


def _row(name: str, before: float, after: float) -> str:
    return f"| {name} | {before:.1f} | {after:.1f} | {f'{after / before:.2f}' if before else 'new'} |"


def _range(ratios: Sequence[float]) -> str:
    return f"median {statistics.median(ratios):.3f} (from {min(ratios):.3f} to {max(ratios):.3f})"


if __name__ == "__main__":
    run_command(main)
