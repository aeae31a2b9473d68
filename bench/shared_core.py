"""What a step costs where another program takes one of the cores, by how PyTorch's threads wait.

    python -m bench.shared_core
    python -m bench.shared_core --rounds 9 --spin 100 10000 --page FILE.md

Each step of the demo (bench/demo_steps.py) is timed in processes of its own, one per rule, in turns:
"libgomp" is the rule that libgomp has by itself (300,000 rounds), "passive" OMP_WAIT_POLICY=passive. A
process that only counts takes the core.
"""

import argparse
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.rows import device_name, interval
from fsgr_model.runtime.artifacts import save_json, whole_file
from fsgr_model.runtime.errors import UserError, run_command

LIBGOMP = "libgomp"
CHOSEN = ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")
RULES: dict[str, dict[str, str]] = {
    LIBGOMP: {"GOMP_SPINCOUNT": "300000"},
    "passive": {"OMP_WAIT_POLICY": "passive"},
}
STAGES = ("clip", "features", "train_xe", "train_scst", "captions")
# A turn is at least so long.
TURN_SECONDS = 2.0


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--child", help=argparse.SUPPRESS)
    parser.add_argument("--stages", nargs="+", choices=STAGES, default=STAGES)
    parser.add_argument("--spin", type=int, nargs="+", default=[], help="more numbers of rounds to try")
    parser.add_argument("--rounds", type=int, default=7, help="turns of each (default: %(default)s)")
    parser.add_argument(
        "--out", type=Path, metavar="FILE", help="write the seconds of every turn there, as JSON"
    )
    parser.add_argument(
        "--page", type=Path, metavar="FILE", help="write the printed table there, as Markdown"
    )
    given = parser.parse_args(arguments)
    if given.child:
        return take_turns(given.child)
    rules = RULES | {f"{count} rounds": {"GOMP_SPINCOUNT": str(count)} for count in given.spin}
    measured = {stage: measure(stage, rules, given.rounds) for stage in given.stages}
    from fsgr_model.runtime.device import pick_device

    page = markdown(measured, device_name(pick_device()))
    print(page)
    if given.page:
        with whole_file(given.page) as partial:
            partial.write_text(page + "\n", encoding="utf-8")
    if given.out:
        save_json(
            given.out,
            {stage: {rule: vars(t) for rule, t in rows.items()} for stage, rows in measured.items()},
        )


@dataclass(frozen=True)
class Turns:
    """Seconds of a step in every turn: with all cores free, and with one of them taken."""

    free: list[float]
    taken: list[float]


def take_turns(stage: str) -> None:
    """The process that is timed: for every line that arrives it runs a turn and prints seconds per step."""
    from bench.demo_steps import works
    from fsgr_model.config.params import load_params

    work = works(load_params())[stage]()
    for _ in range(3):
        work()
    print("ready", flush=True)
    for _ in sys.stdin:
        start, steps = time.perf_counter(), 0
        while time.perf_counter() - start < TURN_SECONDS or steps < 3:
            work()
            steps += 1
        print((time.perf_counter() - start) / steps, flush=True)


def measure(stage: str, rules: Mapping[str, Mapping[str, str]], rounds: int) -> dict[str, Turns]:
    """Turns of a stage's step under each rule, first on free cores, then beside another program."""
    with ExitStack() as held:
        timed = {rule: held.enter_context(timed_process(stage, settings)) for rule, settings in rules.items()}
        seconds: dict[str, Turns] = {rule: Turns([], []) for rule in rules}
        for _ in range(rounds):
            for rule, process in timed.items():
                seconds[rule].free.append(a_turn(process))
            with busy_process():
                for rule, process in timed.items():
                    seconds[rule].taken.append(a_turn(process))
    return seconds


@contextmanager
def timed_process(stage: str, settings: Mapping[str, str]) -> Iterator[subprocess.Popen[str]]:
    """A process that waits for its turns; it is ended afterwards."""
    environment = {name: value for name, value in os.environ.items() if name not in CHOSEN} | dict(settings)
    command = [sys.executable, "-W", "ignore", "-m", "bench.shared_core", "--child", stage]
    with subprocess.Popen(
        command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, encoding="utf-8"
    ) as process:
        _answer(process)
        yield process
        assert process.stdin is not None
        process.stdin.close()


def a_turn(process: subprocess.Popen[str]) -> float:
    """Seconds per step."""
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()
    return float(_answer(process))


def _answer(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    if not (line := process.stdout.readline()):
        raise UserError(f"the timed process ended with exit code {process.wait()}; what it said is above")
    return line


@contextmanager
def busy_process() -> Iterator[None]:
    """Another program, of the usual priority, that never waits."""
    process = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        yield
    finally:
        process.kill()
        process.wait()


def markdown(measured: Mapping[str, Mapping[str, Turns]], machine: str) -> str:
    """The page: a row for each stage and rule."""
    lines = [
        "| stage | rule | ms, free cores | ms, one taken | taken / free | free, of it | taken, of it |",
        "|---|---|---|---|---|---|---|",
    ]
    for stage, rules in measured.items():
        for rule, turns in rules.items():
            free, taken = statistics.median(turns.free), statistics.median(turns.taken)
            cells = [
                stage, rule, f"{1000 * free:.0f}", f"{1000 * taken:.0f}",
                interval([b / a for a, b in zip(turns.free, turns.taken, strict=True)]),
                interval([b / a for a, b in zip(rules[LIBGOMP].free, turns.free, strict=True)]),
                interval([b / a for a, b in zip(rules[LIBGOMP].taken, turns.taken, strict=True)]),
            ]  # fmt: skip
            lines.append(f"| {' | '.join(cells)} |")
    head = (
        "# Beside another program\n\n"
        f"`python -m bench.shared_core` on {machine}: each step at the demo's sizes, with all cores free\n"
        "and with one taken by a process that only counts. Times are medians of the turns; ratios are of\n"
        'pairs of turns, median and range without the two extremes; "of it" divides by libgomp\'s time.\n\n'
    )
    return head + "\n".join(lines)


if __name__ == "__main__":
    run_command(main)
