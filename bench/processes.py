"""Two processes of one thread beside one of two threads, and one process beside an older commit.

    python -m bench.processes PROJECT --against a00376c

PROJECT is a folder in which `dvc repro` has ended. Each way runs the stages on its data, in turns; what
counts is the time of the steps, which the stages print, without imports and validation: steps a second, or
features of all pictures a second. Memory is that of all processes of a stage together, its shared pages
counted once (PSS).
"""

import argparse
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml

from bench.coco_size import Peak, versions
from bench.rows import device_name, put_into_page
from fsgr_model.runtime.artifacts import load_json, load_yaml, save_json
from fsgr_model.runtime.errors import UserError, run_command

PAGE, RESULTS = Path("docs/experiments/processes.md"), Path("bench/results/processes.json")
# The first epoch is left out: it warms up.
PARTS = {
    "train_xe": re.compile(r"^XE epoch ([2-9])/\d+: (\d+)/\d+ steps in ([\d.]+) s", re.M),
    "train_scst": re.compile(r"^SCST epoch ([2-9])/\d+: (\d+)/\d+ steps in ([\d.]+) s", re.M),
    "features": re.compile(r"^features of (\w+): (\d+)/\d+ (?:x 2 )?batches in ([\d.]+) s", re.M),
}
CHANGES: dict[str, Any] = {
    "train_images": 320,
    "xe.epochs": 3,
    "xe.schedule": None,
    "scst.epochs": 2,
}
LINKED = ("dataset", "clip", "features", "codebook", "vocab", "labels", "demo", "concepts", "word_lists")
AIMS = {"train_xe": 1.0, "train_scst": 1.0, "features": 1.15}
AIM_BEFORE = 0.99


@dataclass(frozen=True)
class Way:
    """How a stage is run: the code, how many processes, and the threads of each."""

    name: str
    version: str
    processes: int
    threads: int


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("project", type=Path, help="a folder in which dvc repro has ended")
    parser.add_argument("--against", metavar="COMMIT", help="also one process of this commit")
    parser.add_argument("--stages", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=RESULTS, help="JSON (default: %(default)s)")
    parser.add_argument("--page", type=Path, default=PAGE, help="Markdown page (default: %(default)s)")
    given = parser.parse_args(arguments)
    ways = [Way("one process, two threads", "this", 1, 2), Way("two processes, one thread", "this", 2, 1)]
    if given.against:
        ways.append(Way(f"one process, two threads, {given.against}", given.against, 1, 2))
    known: dict[str, Any] = load_json(given.out) if given.out.exists() else {}
    with tempfile.TemporaryDirectory() as name, versions(given.against or "HEAD", Path(name)) as places:
        for stage in given.stages:
            known[stage] = measure(stage, ways, places, given, folder=Path(name))
            given.out.parent.mkdir(parents=True, exist_ok=True)
            save_json(given.out, known)
    page = markdown(known, device_name(torch.device("cpu")))
    print(page)
    put_into_page(given.page, "processes", page)


def measure(
    stage: str, ways: list[Way], places: dict[str, Path], given: argparse.Namespace, *, folder: Path
) -> dict[str, Any]:
    """Steps a second of each round, and the largest memory, by the name of the way."""
    rates: dict[str, list[float]] = defaultdict(list)
    peaks: dict[str, int] = {}
    for number in range(given.rounds):
        for way in ways:
            project = make_project(
                folder / "work", way, code=places[way.version], data=given.project / "data"
            )
            rate, peak, bytes_given = run_stage(project, places[way.version], stage, way)
            rates[way.name].append(rate)
            peaks[way.name] = max(peak, peaks.get(way.name, 0))
            print(f"{stage}, round {number + 1}, {way.name}: {rate:.3f}/s {bytes_given}", flush=True)
    return {"rates": rates, "peaks": peaks}


def make_project(folder: Path, way: Way, *, code: Path, data: Path) -> Path:
    """A fresh folder with links to a finished project's data, and the parameters of this version."""
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "data" / "models").mkdir(parents=True)
    for name in LINKED:
        (folder / "data" / name).symlink_to(data.resolve() / name)
    shutil.copytree(data / "models" / "xe", folder / "data" / "models" / "xe")
    values = load_yaml(code / "params.yaml")
    for name, value in (CHANGES | {"runtime.processes": way.processes}).items():
        *sections, key = name.split(".")
        inner = values
        for section in sections:
            inner = inner.setdefault(section, {})
        if way.version == "this" or key != "processes":
            inner[key] = value
    (folder / "params.yaml").write_text(yaml.safe_dump(values, sort_keys=False), encoding="utf-8")
    return folder


def run_stage(project: Path, code: Path, stage: str, way: Way) -> tuple[float, int, str]:
    """Steps a second, the largest memory in bytes, and what a process gave to the others in a step.

    Raises:
        UserError: the stage fails; with the last of what it said.
    """
    if stage == "features":
        (project / "data" / "features").unlink()
    environment = os.environ | {
        "PYTHONPATH": str(code.resolve()),
        "DVC_ROOT": str(project.resolve()),
        "OMP_NUM_THREADS": str(way.threads),
    }
    with (
        (project / "said.txt").open("w+", encoding="utf-8") as said,
        subprocess.Popen(
            [sys.executable, "-W", "ignore", "-m", f"pipeline.{stage}"],
            cwd=project,
            env=environment,
            stdout=said,
            stderr=said,
        ) as running,
        Peak(running.pid) as peak,
    ):
        code_of_exit = running.wait()
        said.seek(0)
        text = said.read()
    parts = PARTS[stage].findall(text)
    if code_of_exit or not parts:
        raise UserError(f"{stage} ({way.name}) failed: {text[-800:]}")
    steps, seconds = (sum(float(part[place]) for part in parts) for place in (1, 2))
    given = re.findall(r"gives to the others in a step: (.*)", text)
    done = 1.0 if stage == "features" else steps
    return done / seconds, peak.bytes, given[-1] if given else ""


def markdown(known: dict[str, Any], device: str) -> str:
    """A row for each stage: the ratios of the medians, and the memory."""
    lines = [
        f"`python -m bench.processes` on {device}, the demo's network; rates are medians of the rounds.",
        "",
        "| stage | one process, two threads | two processes, one thread | ratio | aim "
        "| one beside the build before | aim | memory of one | of two |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for stage, found in known.items():
        one, two, *before = (statistics.median(rates) for rates in found["rates"].values())
        memory = [f"{peak / 1e9:.2f} GB" for peak in found["peaks"].values()]
        older = f"{one / before[0]:.2f}" if before else ""
        lines.append(
            f"| {stage} | {one:.3f}/s | {two:.3f}/s | {two / one:.2f} | {AIMS[stage]:.2f} | {older} "
            f"| {AIM_BEFORE:.2f} | {memory[0]} | {memory[1]} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    run_command(main)
