"""Benchmarks of this commit beside those of an older one, in turns.

    python -m bench.against 7618f21 xe_step scst_step beam
    python -m bench.against 7618f21 xe_step --rounds 7 --page FILE.md -- --batch 10

Both commits are cloned, and each runs its own benchmark in a process of its own, the options after `--`
passed on; the one that was first in a round is second in the next. Rows of the same name are compared: above
1 is better than the older commit, whatever the unit. A row has to have been measured in every round.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from bench.clones import clone_of, full_name
from bench.rows import device_name, interval, number
from fsgr_model.runtime.artifacts import load_json, whole_file
from fsgr_model.runtime.device import pick_device
from fsgr_model.runtime.errors import UserError, run_command

# Of these, less is better.
COSTS = ("s", "ms", "MB", "GB", "hours")
SHOWN_ON_FAILURE = 2000

# Of each row: its unit, and what the older and the newer commit measured in every round.
Measured = dict[str, tuple[str, list[float], list[float]]]


def main(arguments: list[str] | None = None) -> None:
    own, passed = _split(sys.argv[1:] if arguments is None else arguments)
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("commit", help="the older commit")
    parser.add_argument("benches", nargs="+", help="modules of bench/ that both commits have")
    parser.add_argument("--rounds", type=int, default=5, help="pairs of runs (default: %(default)s)")
    parser.add_argument(
        "--page", type=Path, metavar="FILE", help="write the printed table there, as Markdown"
    )
    given = parser.parse_args(own)
    with tempfile.TemporaryDirectory() as folder:
        sides = [
            clone_of(full_name(name), Path(folder, place))
            for place, name in (("older", given.commit), ("newer", "HEAD"))
        ]
        measured: Measured = {}
        for bench in given.benches:
            measured |= compare(bench, sides, rounds=given.rounds, options=passed)
    page = markdown(measured, given.commit, ["bench.against", *(arguments or sys.argv[1:])])
    print(page)
    if given.page:
        with whole_file(given.page) as partial:
            partial.write_text(page + "\n", encoding="utf-8")


def compare(bench: str, sides: Sequence[Path], *, rounds: int, options: Sequence[str]) -> Measured:
    """What a benchmark measures in clones of the older and the newer commit, in every round.

    Raises:
        UserError: the benchmark fails in one of them.
    """
    runs: dict[Path, list[dict[str, tuple[str, float]]]] = {side: [] for side in sides}
    for turn in range(rounds):
        for side in sides[:: -1 if turn % 2 else 1]:
            runs[side].append(rows_of(bench, side, options))
            print(f"{bench}: round {turn + 1} of {rounds}, {side.name} commit", file=sys.stderr, flush=True)
    older, newer = (runs[side] for side in sides)
    names = [name for name in newer[0] if all(name in run for run in (*older, *newer))]
    return {
        name: (newer[0][name][0], [run[name][1] for run in older], [run[name][1] for run in newer])
        for name in names
    }


def rows_of(bench: str, clone: Path, options: Sequence[str]) -> dict[str, tuple[str, float]]:
    """Unit and value of every row that a benchmark measures in a clone.

    Raises:
        UserError: it fails, with the last of what it said.
    """
    out = clone / "measured.json"
    out.unlink(missing_ok=True)
    command = [sys.executable, "-m", f"bench.{bench}", "--no-page", "--out", str(out), *options]
    environment = {**os.environ, "PYTHONPATH": str(clone), "DVC_ROOT": str(clone)}
    done = subprocess.run(command, cwd=clone, env=environment, capture_output=True, encoding="utf-8")
    if done.returncode:
        said = (done.stdout + done.stderr)[-SHOWN_ON_FAILURE:].strip()
        raise UserError(f"bench.{bench} fails in the clone of the {clone.name} commit: {said}")
    (entry,) = load_json(out).values()
    return {row["what"]: (row["unit"], row["value"]) for row in entry["rows"]}


def markdown(measured: Measured, commit: str, command: Sequence[str]) -> str:
    """A row for each row of the benchmarks: medians, and the ratio of the pairs."""
    lines = [
        f"`python -m {' '.join(command)}` on {device_name(pick_device())}. Medians; the ratio is the "
        "median of the pairs, and the range of all but the two extremes.",
        "",
        f"| what | {commit} | now | now / {commit} |",
        "|---|---|---|---|",
    ]
    for name, (unit, older, newer) in measured.items():
        sides = (f"{number(statistics.median(side))} {unit}" for side in (older, newer))
        lines.append(f"| {name} | {' | '.join(sides)} | {interval(ratios(unit, older, newer), digits=3)} |")
    return "\n".join(lines)


def ratios(unit: str, older: Sequence[float], newer: Sequence[float]) -> list[float]:
    """How much better the newer one is, pair by pair: rates by their quotient, costs by its inverse."""
    pairs = zip(newer, older, strict=True)
    return [old / new if unit in COSTS else new / old for new, old in pairs]


def _split(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    place = list(arguments).index("--") if "--" in arguments else len(arguments)
    return list(arguments[:place]), list(arguments[place + 1 :])


if __name__ == "__main__":
    run_command(main)
