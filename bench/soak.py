"""Looks for growth: XE and SCST are trained repeatedly in one process, on a small demo world.

    python -m bench.soak --minutes 60

A round is an epoch of each phase from files to files: caches are opened, resume points and weights written.
After each round the resident memory and the open files of the process are noted, and the median time of a
step: CPU time of the process, which other work on the machine does not stretch as it does the clock's.
Writes bench/results/soak.json and docs/images/soak.png; ends with exit code 1 if anything has grown.
"""

import argparse
import contextlib
import os
import statistics
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import psutil
from matplotlib.figure import Figure

from bench.scratch import PREPARATION, Scratch
from fsgr_model.config.params import Params, load_params
from fsgr_model.runtime.artifacts import save_json
from fsgr_model.runtime.errors import UserError, run_command
from fsgr_model.training.loop import Loop
from fsgr_model.training.run import Run
from pipeline.train_scst import train_scst
from pipeline.train_xe import train_xe

RESULTS, IMAGES = Path("bench/results"), Path("docs/images")
# Allocators and caches settle within the first tenth; the next fifth is compared with the last.
SETTLED, SPAN = 0.1, 0.2
MOST_GROWTH = {"rss_mb": 0.05, "open_files": 0.0, "xe_step_ms": 0.1, "scst_step_ms": 0.1}


@dataclass(frozen=True)
class Sample:
    """The state of the process after a round, and the median CPU milliseconds of the round's steps."""

    minute: float
    rss_mb: float
    open_files: int
    xe_step_ms: float
    scst_step_ms: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--minutes", type=float, default=60)
    given = parser.parse_args()
    results, images = RESULTS.resolve(), IMAGES.resolve()
    with tempfile.TemporaryDirectory() as folder:
        scratch = Scratch(Path(folder), {"xe.epochs": 1, "scst.epochs": 1, "xe.schedule": None})
        scratch.run_stages(*PREPARATION)
        with contextlib.chdir(scratch.folder):
            os.environ.pop("DVC_ROOT", None)
            samples = soak(given.minutes)
    found = growth(samples)
    save_json(results / "soak.json", {"growth": found, "samples": [asdict(sample) for sample in samples]})
    plot(samples, images / "soak.png")
    print(", ".join(f"{name} {change:+.1%}" for name, change in found.items()))
    if grown := [name for name, most in MOST_GROWTH.items() if found[name] > most]:
        raise UserError(f"in {len(samples)} rounds {', '.join(grown)} grew beyond {MOST_GROWTH}")


def soak(minutes: float) -> list[Sample]:
    """Rounds until the time is over; four at least."""
    params, process = load_params(), psutil.Process()
    samples: list[Sample] = []
    start = time.monotonic()
    while len(samples) < 4 or time.monotonic() - start < 60 * minutes:
        steps = [median_step(params, stage) for stage in ("train_xe", "train_scst")]
        minute = (time.monotonic() - start) / 60
        samples.append(Sample(minute, process.memory_info().rss / 1e6, process.num_fds(), *steps))
        print(samples[-1], flush=True)
    return samples


def median_step(params: Params, stage: str) -> float:
    """Train a phase; the median CPU milliseconds of its steps."""
    phase = stage.removeprefix("train_")
    curve = Path("plots") / f"{phase}.tsv"
    run = Run(
        stage,
        Path("data"),
        Path("data/models") / phase,
        curve,
        seed=params.seed,
        save_minutes=60,
        optimiser=params.optimiser,
    )
    with step_times() as seconds, Path(os.devnull).open("w") as nowhere, contextlib.redirect_stdout(nowhere):
        if phase == "xe":
            train_xe(run, params.lr, params.model, params.xe)
        else:
            train_scst(run, Path("data/models/xe"), params.model, params.scst)
    return 1000 * statistics.median(seconds)


@contextlib.contextmanager
def step_times() -> Iterator[list[float]]:
    """The CPU seconds of every step of training that is taken within the block."""
    plain = Loop._train_step
    seconds: list[float] = []

    def timed(*arguments: Any) -> None:
        start = time.process_time()
        plain(*arguments)
        seconds.append(time.process_time() - start)

    with mock.patch.object(Loop, "_train_step", timed):
        yield seconds


def growth(samples: list[Sample]) -> dict[str, float]:
    """Relative change of each number's median from the early rounds to the last ones."""
    end = samples[-1].minute
    early = [one for one in samples if SETTLED * end <= one.minute <= (SETTLED + SPAN) * end] or samples[:1]
    late = [one for one in samples if one.minute >= (1 - SPAN) * end]
    found = {}
    for name in MOST_GROWTH:
        before, after = (statistics.median(getattr(one, name) for one in part) for part in (early, late))
        found[name] = after / before - 1
    return found


def plot(samples: list[Sample], path: Path) -> None:
    """Memory, open files and step time over the minutes."""
    figure = Figure(figsize=(10, 3), layout="constrained")
    axes = figure.subplots(1, 3)
    minutes = [sample.minute for sample in samples]
    titles = {"rss_mb": "resident memory, MB", "open_files": "open files", "xe_step_ms": "step, CPU ms"}
    for axis, (name, title) in zip(axes, titles.items(), strict=True):
        axis.plot(minutes, [getattr(sample, name) for sample in samples], label="XE")
        axis.set(title=title, xlabel="minutes", ylim=(0, None))
        axis.grid(alpha=0.3)
    axes[2].plot(minutes, [sample.scst_step_ms for sample in samples], label="SCST")
    axes[2].set_title("median step, ms of CPU time\n(the machine was shared)", fontsize=10)
    axes[2].set_ylim(0, 1.3 * max(max(one.xe_step_ms, one.scst_step_ms) for one in samples))
    axes[2].legend()
    axes[0].set_ylim(0, 1.3 * max(sample.rss_mb for sample in samples))
    axes[1].set_ylim(0, 1.3 * max(sample.open_files for sample in samples))
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    run_command(main)
