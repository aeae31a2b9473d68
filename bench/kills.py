"""Kills the long stages (SIGKILL) at random moments until they end, and checks that nothing is lost.

    python -m bench.kills --kills 100 --seed 1

Every stage first runs undisturbed, in a small copy of the project. Then it is started, killed at a random
step of its work and started again, until a run ends by itself; its outputs are then compared: byte by byte,
weights of networks also as numbers. After every kill no output may be there that is not whole. Runs are
forked from a process that has imported everything, so that kills meet work and not imports. `--stages` takes
a part of them, so that a trial can be cut in pieces. With `--processes 2` a stage is shared by two, and the
kill hits one of them or the command that started them. Results are added to bench/results/kills.json.
"""

import argparse
import csv
import json
import math
import random
import shutil
import tempfile
import time
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path

import psutil
from safetensors.torch import load_file

from bench.scratch import PREPARATION, Scratch
from fsgr_model.runtime.artifacts import load_json, load_yaml, save_json, sha256_file
from fsgr_model.runtime.errors import UserError, run_command

OUT = Path("bench/results/kills.json")
# What each stage writes.
OUTPUTS = {
    "clip": ("data/clip",),
    "features": ("data/features",),
    "labels": ("data/labels",),
    "train_xe": ("data/models/xe", "plots/xe.tsv"),
    "train_scst": ("data/models/scst", "plots/scst.tsv"),
}
SECONDS_TO_END = 20.0
# After the kill of one, the others save and leave; torchrun kills them after 30 s.
SECONDS_TO_LEAVE = 60.0
# A run takes a second or two of CPU time, in some twenty steps, with a resume point every few.
TINY = {
    "dataset.demo": {"train_images": 24, "val_images": 6, "test_images": 6},
    "clip.training.epochs": 4,
    "clip.training.batch_size": 8,
    "runtime.image_batch": 3,
    "runtime.save_minutes": 0.002,
    "xe.batch_size": 3,
    "xe.epochs": 2,
    "xe.schedule": None,
    "scst.batch_size": 4,
}


@dataclass
class Tally:
    """What happened to a stage; `differing` names outputs that were not equal in the end."""

    kills: int = 0
    completed_runs: int = 0
    resumed_runs: int = 0
    killed_after_outputs: int = 0
    byte_equal: int = 0
    files_compared: int = 0
    largest_weight_difference: float = 0.0
    half_written: list[str] = field(default_factory=list)
    differing: list[str] = field(default_factory=list)
    orphans: int = 0
    killed: dict[str, int] = field(default_factory=dict)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--kills", type=int, default=100, help="in all, shared out evenly")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--stages", nargs="+", choices=OUTPUTS, default=list(OUTPUTS))
    parser.add_argument("--processes", type=int, default=1, help="that share a stage's work")
    parser.add_argument(
        "--minutes", type=float, default=math.inf, help="of each stage, after which no kill begins"
    )
    parser.add_argument("--folder", type=Path, help="an empty or earlier folder for the copy; it is kept")
    given = parser.parse_args()
    before = load_json(OUT) if OUT.exists() else {}
    several = f", {given.processes} processes" if given.processes > 1 else ""
    with tempfile.TemporaryDirectory() as temporary:
        changes = TINY | {"runtime.processes": given.processes}
        scratch = Scratch((given.folder or Path(temporary)).resolve(), changes)
        for stage in given.stages:
            draw = random.Random(f"{given.seed} {stage}")
            tally = Trial(scratch, stage, draw).run(-(-given.kills // len(given.stages)), given.minutes)
            before[f"{stage}, seed {given.seed}{several}"] = asdict(tally)
            print(stage, json.dumps(asdict(tally)), flush=True)
            save_json(OUT, before)
    bad = [
        stage for stage, one in before.items() if one["differing"] or one["half_written"] or one["orphans"]
    ]
    if bad:
        raise UserError(f"{bad} lost something; see {OUT}")


class Trial:
    """One stage, undisturbed and then killed."""

    def __init__(self, scratch: Scratch, stage: str, draw: random.Random) -> None:
        self.scratch, self.stage, self.draw = scratch, stage, draw
        self.outputs = [scratch.folder / name for name in OUTPUTS[stage]]
        self.log = scratch.folder / f"{stage}.log"
        self.whole = scratch.folder / "whole" / stage
        self.tally = Tally()
        self.started: list[psutil.Process] = []
        # Of the last attempt that ended by itself.
        self.seconds = 0.0

    def run(self, kills: int, minutes: float = math.inf) -> Tally:
        """So many kills, fewer if they take longer than so many minutes."""
        self._prepare()
        self._clear()
        self._attempt(self.stage)
        shutil.rmtree(self.whole, ignore_errors=True)
        self._copy_to(self.whole)
        self._clear()
        killed_before, end = False, time.monotonic() + 60 * minutes
        while (go_on := self.tally.kills < kills and time.monotonic() < end) or killed_before:
            # After the last kill, the run that continues to the end.
            delay = self.draw.uniform(0, self.seconds) if go_on else None
            completed = self._attempt(self.stage, delay)
            if completed:
                self.tally.completed_runs += 1
                self.tally.resumed_runs += killed_before
                self._compare()
                self._clear()
            killed_before = not completed
        self.tally.orphans = self._orphans()
        return self.tally

    def _prepare(self) -> None:
        """The stages before this one, undisturbed, where their outputs are not there yet."""
        order = (*PREPARATION, *(stage for stage in OUTPUTS if stage not in PREPARATION))
        for stage in order[: order.index(self.stage)]:
            last = OUTPUTS[stage][0] if stage in OUTPUTS else f"data/{stage}"
            if not (self.scratch.folder / last).exists():
                self._attempt(stage)

    def _attempt(self, stage: str, delay: float | None = None) -> bool:
        """Run a stage; kill it after `delay` seconds. Whether it came to its end before that."""
        start = time.monotonic()
        process = psutil.Process(self.scratch.fork(stage, self.log))
        self.started.append(process)
        try:
            code = process.wait(delay)
        except psutil.TimeoutExpired:
            if self._kill(process) == 0:
                return True
            self._check_wholeness()
            # DVC deletes outputs before it runs a stage again; somebody who starts the script does not.
            if self.draw.random() < 0.5:
                self._clear()
            return False
        if code:
            raise UserError(f"{stage} ended with {code}: {self.log.read_text()[-2000:]}")
        self.seconds = time.monotonic() - start
        return True

    def _kill(self, command: psutil.Process) -> int:
        """Kill the command or one of the processes that it started, and wait for the others' end; its code.

        One process alone, as the system does when memory runs out; the others must find out.
        """
        self.started += command.children(recursive=True)
        sharing = {f"process {rank}": one for rank, one in enumerate(self._sharing(command))}
        name, victim = self.draw.choice([("the command", command), *sharing.items()])
        with suppress(psutil.NoSuchProcess):
            victim.kill()
        code = command.wait(SECONDS_TO_LEAVE)
        for other in sharing.values():
            other.wait(SECONDS_TO_LEAVE)
        self.tally.kills += 1
        self.tally.killed[name] = self.tally.killed.get(name, 0) + 1
        return code

    def _sharing(self, command: psutil.Process) -> list[psutil.Process]:
        """The processes that share the work, by rank; a stage that works alone has other children."""
        if load_yaml(self.scratch.folder / "params.yaml")["runtime"]["processes"] == 1:
            return []
        return sorted(command.children(), key=lambda one: one.pid)

    def _check_wholeness(self) -> None:
        """What a killed run left in the place of its outputs is whole, or is not there."""
        for output in filter(Path.exists, self.outputs):
            self.tally.killed_after_outputs += 1
            if output.suffix == ".tsv":
                self._check_curve(output)
                continue
            for name, digest in digests(output).items():
                if digests(self.whole / output.name).get(name) != digest:
                    self.tally.half_written.append(f"{output.name}/{name} after kill {self.tally.kills}")

    def _check_curve(self, curve: Path) -> None:
        """A curve is written anew after every epoch: it has the first rows of the whole one."""
        found, expected = rows_of(curve), rows_of(self.whole / curve.name)
        if found != expected[: len(found)]:
            self.tally.half_written.append(f"{curve.name} after kill {self.tally.kills}")

    def _compare(self) -> None:
        for output in self.outputs:
            found, expected = digests(output), digests(self.whole / output.name)
            self.tally.files_compared += len(expected)
            self.tally.byte_equal += sum(found.get(name) == digest for name, digest in expected.items())
            if found != expected:
                self._compare_weights(output, sorted(found.keys() ^ expected.keys()))

    def _compare_weights(self, output: Path, names: list[str]) -> None:
        """Outputs that are not equal bytes: the same weights but for 1e-6, or a failure."""
        for path in sorted(output.rglob("*.safetensors")):
            ours, theirs = load_file(path), load_file(self.whole / output.name / path.name)
            largest = max((ours[name] - theirs[name]).abs().max().item() for name in theirs)
            self.tally.largest_weight_difference = max(self.tally.largest_weight_difference, largest)
        if names or self.tally.largest_weight_difference > 1e-6 or not output.is_dir():
            self.tally.differing.append(f"{output.name} {names}")

    def _orphans(self) -> int:
        """Processes of this trial, workers of the killed ones among them, that are still there."""
        deadline = time.monotonic() + SECONDS_TO_END
        while (left := [one for one in self.started if one.is_running()]) and time.monotonic() < deadline:
            time.sleep(0.5)
        return len(left)

    def _copy_to(self, folder: Path) -> None:
        folder.mkdir(parents=True)
        for output in self.outputs:
            (shutil.copytree if output.is_dir() else shutil.copy2)(output, folder / output.name)

    def _clear(self) -> None:
        for output in self.outputs:
            shutil.rmtree(output) if output.is_dir() else output.unlink(missing_ok=True)


def rows_of(curve: Path) -> list[dict[str, str]]:
    """The rows of a curve, without what they lack: a column comes with the first epoch that has it."""
    with curve.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    return [{name: value for name, value in row.items() if value} for row in rows]


def digests(output: Path) -> dict[str, str]:
    """SHA-256 of a file, or of every file in a folder by name."""
    files = [file for file in output.rglob("*") if file.is_file()] if output.is_dir() else [output]
    return {file.name: sha256_file(file) for file in files}


if __name__ == "__main__":
    run_command(main)
