"""DVC with the stages under it: killed, told to stop, and run twice at once on one cache.

    python -m bench.dvc_trials                  # signals, clones and queue, one after the other
    python -m bench.dvc_trials --trials signals

- signals: `dvc repro` gets SIGTERM alone, then Ctrl-C with all of its processes as a terminal sends it, then
  SIGKILL with all of them, each time in the middle of XE training. After every one no process may be left;
  the seconds until the last is gone are told, and lie below 10 where the machine has a core to give. The last
  `dvc repro` must go through and give the weights of an undisturbed run. `--processes 2`: training is
  shared by two.
- clones: two clones with one cache run `dvc repro` at once, with other learning rates.
- queue: two workers of `dvc queue` run two experiments at once.
"""

import argparse
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import psutil

from bench.scratch import Scratch
from fsgr_model.runtime.artifacts import sha256_file
from fsgr_model.runtime.errors import UserError, run_command

TINY = {
    "dataset.demo": {"train_images": 24, "val_images": 6, "test_images": 6},
    "clip.training.epochs": 1,
    "runtime.image_batch": 8,
    "xe.epochs": 40,
    "xe.patience": 40,
    "xe.batch_size": 6,
    "xe.schedule": None,
    "scst.epochs": 1,
}
TRIALS = ("signals", "clones", "queue")
WEIGHTS = "data/models/xe/model.safetensors"
SECONDS_TO_END = 60.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--trials", nargs="+", choices=TRIALS, default=list(TRIALS))
    parser.add_argument("--processes", type=int, default=1, help="of each stage, where signals are sent")
    given = parser.parse_args()
    trials: dict[str, Callable[[Path], None]] = {
        "signals": partial(signals, processes=given.processes),
        "clones": clones,
        "queue": queue,
    }
    for name in given.trials:
        with tempfile.TemporaryDirectory() as folder:
            trials[name](Path(folder).resolve())


def repository(folder: Path, changes: dict[str, Any]) -> Scratch:
    """A small copy of the project, with changed parameters, as a git repository of its own."""
    scratch = Scratch(folder, changes)
    scratch.environment |= {"GIT_AUTHOR_NAME": "trial", "GIT_AUTHOR_EMAIL": "trial@localhost"}
    scratch.environment |= {"GIT_COMMITTER_NAME": "trial", "GIT_COMMITTER_EMAIL": "trial@localhost"}
    (folder / "dvc.lock").unlink(missing_ok=True)
    scratch.run("git", "init", "--quiet")
    scratch.run("git", "add", "--all")
    scratch.run("git", "commit", "--quiet", "-m", "trial")
    return scratch


def signals(folder: Path, processes: int) -> None:
    scratch = repository(folder / "project", TINY | {"runtime.processes": processes})
    scratch.run("dvc", "repro", "features", "codebook", "labels", "vocab")
    interrupt_and_resume(scratch)


def interrupt_and_resume(scratch: Scratch) -> None:
    """XE training, interrupted in three ways, continued each time, and compared."""
    for how in (send_to_dvc(signal.SIGTERM), send_to_all(signal.SIGINT), send_to_all(signal.SIGKILL)):
        code, seconds, left, said = interrupted_repro(scratch, how)
        print(
            f"{how.__name__}: exit code {code}, over after {seconds:.1f} s, left: {left}; {said}", flush=True
        )
        if code == 0 or left or (scratch.folder / WEIGHTS).exists():
            raise UserError(f"{how.__name__}: exit code {code}, processes left {left}")
    print(scratch.run("dvc", "repro", "train_xe").stdout.splitlines()[-1])
    resumed = sha256_file(scratch.folder / WEIGHTS)
    scratch.run_stages("train_xe")
    print(f"weights equal those of an undisturbed run: {resumed == sha256_file(scratch.folder / WEIGHTS)}")


Interrupt = Callable[[subprocess.Popen[str]], None]


def send_to_dvc(number: signal.Signals) -> Interrupt:
    def how(dvc: subprocess.Popen[str]) -> None:
        dvc.send_signal(number)

    how.__name__ = f"{number.name} to dvc alone"
    return how


def send_to_all(number: signal.Signals) -> Interrupt:
    def how(dvc: subprocess.Popen[str]) -> None:
        os.killpg(dvc.pid, number)

    how.__name__ = f"{number.name} to dvc and its stage"
    return how


def interrupted_repro(scratch: Scratch, how: Interrupt) -> tuple[int, float, list[int], str]:
    """Exit code of `dvc repro`, seconds until all was over, processes left, and what the stage said."""
    log = scratch.folder / ".resume" / "trial.log"
    log.parent.mkdir(exist_ok=True)
    with log.open("w") as output:
        dvc = subprocess.Popen(
            ["dvc", "repro", "train_xe"],
            cwd=scratch.folder,
            env=scratch.environment,
            stdout=output,
            stderr=output,
            encoding="utf-8",
            start_new_session=True,
        )
    while "XE epoch 2" not in log.read_text():
        if dvc.poll() is not None:
            raise UserError(f"dvc repro ended before it was interrupted: {log.read_text()[-1000:]}")
        time.sleep(0.1)
    family = [psutil.Process(dvc.pid), *psutil.Process(dvc.pid).children(recursive=True)]
    start = time.monotonic()
    how(dvc)
    code = dvc.wait()
    _, alive = psutil.wait_procs(family, timeout=SECONDS_TO_END - (time.monotonic() - start))
    said = [line for line in log.read_text().splitlines() if line.startswith("stopped by")]
    return code, time.monotonic() - start, [one.pid for one in alive], " ".join(said)


def clones(folder: Path) -> None:
    """The second clone finds the stages before training in the cache, and trains at its own rate."""
    first = repository(folder / "first", TINY)
    cache = folder / "cache"
    first.run("dvc", "cache", "dir", str(cache), "--local")
    first.run("dvc", "repro", "features", "codebook", "labels", "vocab")
    second = Scratch(folder / "second", TINY | {"lr": 5e-4}, first.environment)
    second.run("git", "init", "--quiet")
    second.run("dvc", "cache", "dir", str(cache), "--local")
    (second.folder / "dvc.lock").write_text((first.folder / "dvc.lock").read_text())
    running = [
        subprocess.Popen(
            ["dvc", "repro", "train_xe"], cwd=one.folder, env=one.environment, stdout=subprocess.DEVNULL
        )
        for one in (first, second)
    ]
    codes = [one.wait() for one in running]
    status = [one.run("dvc", "status", "train_xe").stdout.strip().splitlines()[-1] for one in (first, second)]
    print(f"clones: exit codes {codes}, dvc status: {status}")
    for one in (first, second):
        made = sha256_file(one.folder / WEIGHTS)
        one.run("dvc", "unprotect", "data/models/xe")
        one.run_stages("train_xe")
        print(
            f"clones: {one.folder.name} as if alone: {made == sha256_file(one.folder / WEIGHTS)}", flush=True
        )


def queue(folder: Path) -> None:
    """Two experiments that share every stage but training, and one that differs in nothing but captions."""
    scratch = repository(folder / "project", TINY)
    scratch.run("dvc", "repro", "vocab", "labels")
    for lr in ("1e-3", "5e-4"):
        scratch.run("dvc", "exp", "run", "--queue", "-n", f"lr-{lr}", "-S", f"lr={lr}", "-S", "xe.epochs=2")
    scratch.run("dvc", "exp", "run", "--run-all", "--jobs", "2")
    shown = scratch.run("dvc", "queue", "status").stdout
    print(f"queue: {shown.count('Success')} of 2 succeeded", flush=True)
    for lr in ("1e-3", "5e-4"):
        scratch.run("git", "rev-parse", "--verify", "-q", _revision(scratch, f"lr-{lr}"))


def _revision(scratch: Scratch, name: str) -> str:
    head = scratch.run("git", "rev-parse", "HEAD").stdout.strip()
    return f"refs/exps/{head[:2]}/{head[2:]}/{name}"


if __name__ == "__main__":
    run_command(main)
