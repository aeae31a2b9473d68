"""The stages at COCO's full size, in time and memory, beside an older commit that is built for the purpose.

    python -m bench.coco_size captions_val2017.json --against 7618f21 --shares 0.1 0.5 1

A file of Karpathy's form and small JPEGs, each different, stand in for COCO: captions are drawn from those
of the given COCO file, so their words and lengths are COCO's, and the pictures show nothing. The CLIP is tiny
and random, so what is measured is everything but the networks. Both versions run each stage in turns.
"""

import argparse
import contextlib
import io
import os
import random
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch
import yaml
from PIL import Image

from bench.rows import device_name, put_into_page
from fsgr_model.clip.loading import save_clip
from fsgr_model.clip.model_building import build_model, default_preprocessing
from fsgr_model.runtime.artifacts import load_json, load_yaml, save_json
from fsgr_model.runtime.device import pick_device
from fsgr_model.runtime.errors import UserError, run_command

PAGE, RESULTS = Path("docs/experiments/coco_size.md"), Path("bench/results/coco_size.json")
# Images of Karpathy's split of COCO.
SPLITS = {"train": 82_783, "restval": 30_504, "val": 5_000, "test": 5_000}
IMAGES = sum(SPLITS.values())
PICTURES = 500
CLIP = {
    "embed_dim": 8,
    "vision_cfg": {"image_size": 16, "patch_size": 8, "layers": 2, "width": 16, "head_width": 8},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 8, "heads": 2, "layers": 1},
}
# Of both versions' presets/coco.yaml, which name parameters differently: each takes the names that it has.
CHANGES: dict[str, Any] = {
    "dataset.root": "../coco",
    "dataset.instances": [],
    "clip.cut": 1,
    "codebook.concepts": "concepts.txt",
    "codebook.templates": "scene",
    "model.d_model": 16,
    "model.num_heads": 2,
    "model.d_ff": 32,
    "model.encoder_layers": 1,
    "model.decoder_layers": 1,
    "model.top_k": 4,
    "model.tail": None,
    "model.adapters": False,
    "model.prompts": 0,
    "xe.contrast": None,
    "xe.contrast_weight": 0,
    "xe.batch_size": 100,
    "scst.batch_size": 100,
    "runtime.workers": 2,
}
# XE of a few images, for weights that SCST starts from.
SHORT: dict[str, Any] = {
    "train_images": 100,
    "xe.train_images": 100,
    "xe.epochs": 1,
    "xe.schedule": None,
    "xe.warmup_epochs": 0,
    "xe.decay": [],
}
CONCEPTS = ("person", "dog", "table", "car")
STAGES = ("dataset", "features", "codebook", "vocab", "train_xe", "train_scst")
# What training says when all is read and its loop begins; then it is ended. Validation comes next, before the
# first step: that is the network's time, which grows with the network and not with COCO.
LOOP_BEGINS = {"train_xe": "XE on ", "train_scst": "SCST on "}
# Shares of the older version's time.
AIMS = {"dataset": 1 / 3, "features": 1 / 3, "vocab": 1 / 4, "train_xe": 1 / 7, "train_scst": 1 / 7}
AIM_GB = 1.2
SECONDS_BETWEEN_LOOKS = 0.5
# Processes that a killed stage had started end with it.
SECONDS_TO_END = 60.0


@dataclass(frozen=True)
class Cost:
    """Seconds of a stage on the clock and of its processes on a core, and their largest memory together, in
    bytes.
    """

    version: str
    stage: str
    images: int
    seconds: float
    cpu: float
    peak: int


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "captions", type=Path, help="COCO's captions_val2017.json or another file of its form"
    )
    parser.add_argument("--against", metavar="COMMIT", required=True, help="the commit to compare with")
    parser.add_argument("--shares", type=float, nargs="+", default=[0.1, 0.5, 1.0], help="of COCO's images")
    parser.add_argument("--stages", nargs="+", default=STAGES, help="those that are measured")
    parser.add_argument("--add", action="store_true", help="to what the JSON file has of other runs")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--folder", type=Path, help="keep the data here, and use what is here already")
    parser.add_argument("--out", type=Path, default=RESULTS, help="JSON (default: %(default)s)")
    parser.add_argument("--page", type=Path, default=PAGE, help="Markdown page (default: %(default)s)")
    given = parser.parse_args(arguments)
    texts = [entry["caption"] for entry in load_json(given.captions)["annotations"]]
    costs = (
        [Cost(**cost) for cost in load_json(given.out)["costs"]] if given.add and given.out.exists() else []
    )
    with tempfile.TemporaryDirectory() as temporary, versions(given.against, Path(temporary)) as places:
        for share in given.shares:
            folder = (given.folder or Path(temporary)) / f"{share:g}"
            images = round(share * IMAGES)
            make_coco(folder / "coco", texts, images)
            projects = {name: make_project(folder / name, code) for name, code in places.items()}
            costs += measure(projects, places, images, stages=given.stages, rounds=given.rounds)
    page = markdown(costs, given.against)
    print(page)
    put_into_page(given.page, "coco_size", page)
    save_json(given.out, {"device": device_name(pick_device()), "costs": [asdict(cost) for cost in costs]})


@contextmanager
def versions(commit: str, folder: Path) -> Iterator[dict[str, Path]]:
    """The code of the commit, checked out for as long as the block runs, and that of this folder."""
    place = folder / "code"
    subprocess.run(["git", "worktree", "add", "--quiet", "--detach", str(place), commit], check=True)
    try:
        yield {commit: place, "this": Path.cwd()}
    finally:
        subprocess.run(["git", "worktree", "remove", "--force", str(place)], check=True)


def make_coco(folder: Path, texts: list[str], images: int) -> None:
    """A Karpathy file and its pictures, unless they are there: the splits' shares are COCO's."""
    if (folder / "dataset_coco.json").exists():
        return
    draw = random.Random(0)
    pictures = [jpeg(seed) for seed in range(PICTURES)]
    splits = draw.choices(list(SPLITS), weights=list(SPLITS.values()), k=images)
    entries = []
    for number, split in enumerate(splits):
        name = f"{number % 100:02d}/{number:06d}.jpg"
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        # Bytes behind the end of a JPEG change its digest and nothing else.
        (folder / name).write_bytes(pictures[number % PICTURES] + number.to_bytes(4))
        # The real file has the words of each caption as well.
        sentences = [
            {"raw": text, "tokens": text.lower().split(), "imgid": number, "sentid": 5 * number + place}
            for place, text in enumerate(draw.choices(texts, k=5))
        ]
        entries.append(
            {"filename": name, "split": split, "imgid": number, "cocoid": number, "sentences": sentences}
        )
    save_json(folder / "dataset_coco.json", {"images": entries}, indent=None)


def jpeg(seed: int) -> bytes:
    """A small picture of soft colours."""
    cells_HWC = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    target = io.BytesIO()
    Image.fromarray(cells_HWC).resize((64, 48), Image.Resampling.BICUBIC).save(target, "JPEG")
    return target.getvalue()


def make_project(folder: Path, code: Path) -> Path:
    """A folder with the parameters of a version, the concepts and a CLIP; the pictures are beside it."""
    folder.mkdir(parents=True, exist_ok=True)
    write_params(folder, code, CHANGES)
    (folder / "concepts.txt").write_text("\n".join(CONCEPTS) + "\n", encoding="utf-8")
    torch.manual_seed(0)
    preprocessing = default_preprocessing(CLIP, {"resize_mode": "squash"})
    model = build_model(CLIP, "tiny")
    save_clip(folder / "data" / "clip", model, "tiny", CLIP, preprocessing=preprocessing, origin={})
    return folder


def write_params(folder: Path, code: Path, changes: dict[str, Any]) -> None:
    """The version's parameters for COCO with those of the changes that it knows."""
    values = load_yaml(code / "presets" / "coco.yaml")
    for name, value in changes.items():
        *sections, key = name.split(".")
        inner = values
        for section in sections:
            inner = inner[section]
        if key in inner:
            inner[key] = value
    (folder / "params.yaml").write_text(yaml.safe_dump(values, sort_keys=False), encoding="utf-8")


def measure(
    projects: dict[str, Path], places: dict[str, Path], images: int, *, stages: list[str], rounds: int
) -> list[Cost]:
    """Every stage of every project, in turns; the last result of a stage is what the next one reads."""
    costs = []
    for stage in stages:
        if stage == "train_scst":
            for version, project in projects.items():
                train_shortly(project, places[version])
        for _ in range(rounds):
            for version, project in projects.items():
                before = cpu_seconds()
                seconds, peak = run_stage(project, places[version], stage, LOOP_BEGINS.get(stage, ""))
                cost = Cost(version, stage, images, seconds, cpu_seconds() - before, peak)
                costs.append(cost)
                print(cost, flush=True)
    return costs


def run_stage(project: Path, code: Path, stage: str, until: str = "") -> tuple[float, int]:
    """Seconds of a stage, and the largest memory of its processes: of all of it, or until it says `until`.

    Raises:
        UserError: it fails; with the last of what it said.
    """
    shutil.rmtree(project / ".resume", ignore_errors=True)
    environment = {**os.environ, "PYTHONPATH": str(code.resolve()), "DVC_ROOT": str(project.resolve())}
    command = [sys.executable, "-W", "ignore", "-m", f"pipeline.{stage}"]
    said = [""]
    start = time.perf_counter()
    with (
        subprocess.Popen(
            command,
            cwd=project,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
        ) as running,
        Peak(running.pid) as peak,
    ):
        assert running.stdout is not None
        for line in running.stdout:
            said.append(line)
            if until and line.startswith(until):
                started = psutil.Process(running.pid).children(recursive=True)
                running.kill()
                psutil.wait_procs(started, timeout=SECONDS_TO_END)
                return time.perf_counter() - start, peak.bytes
        code_of_exit = running.wait()
        seconds = time.perf_counter() - start
    if code_of_exit or until:
        raise UserError(f"{stage} in {project} failed: {''.join(said)[-800:]}")
    return seconds, peak.bytes


def cpu_seconds() -> float:
    """Of all processes that this one has started, and that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


class Peak:
    """The largest memory of a process and its descendants together while the block runs; pages that several
    of them share count once (PSS).
    """

    def __init__(self, number: int) -> None:
        self.process, self.bytes, self.over = psutil.Process(number), 0, threading.Event()
        self.thread = threading.Thread(target=self._watch)

    def _watch(self) -> None:
        while not self.over.wait(SECONDS_BETWEEN_LOOKS):
            self.bytes = max(self.bytes, self._now())

    def _now(self) -> int:
        total = 0
        with contextlib.suppress(psutil.NoSuchProcess):
            for process in [self.process, *self.process.children(recursive=True)]:
                with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):
                    total += process.memory_full_info().pss
        return total

    def __enter__(self) -> "Peak":
        self.thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.over.set()
        self.thread.join()


def train_shortly(project: Path, code: Path) -> None:
    """Weights that SCST starts from."""
    write_params(project, code, CHANGES | SHORT)
    run_stage(project, code, "train_xe")
    write_params(project, code, CHANGES)


def markdown(costs: list[Cost], against: str) -> str:
    """The page: each stage at each size, both versions side by side."""
    head = (
        f"`python -m bench.coco_size` on {device_name(pick_device())}: {IMAGES:,} images with five captions "
        "each, and parts of them. Training is measured until its loop begins. Memory is that of all "
        f"processes of a stage together, at its largest; {AIM_GB} GB is the aim. CPU time is that of all "
        "processes: other programs disturb it less than the clock. Growth is this version's CPU time for "
        "each 10,000 images more than in the row above: equal numbers mean that it is linear.\n\n"
    )
    lines = [
        f"| stage | images | {against} | this version | share | CPU time, {against} | this version | share "
        f"| aim | memory, {against} | this version | growth |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    theirs, before = medians(costs, against), Cost("this", "", 0, 0, 0, 0)
    for (stage, images), mine in medians(costs, "this").items():
        other = theirs[stage, images]
        aim = f"{AIMS[stage]:.2f}" if stage in AIMS else ""
        growth = ""
        if before.stage == stage:
            growth = f"{10_000 * (mine.cpu - before.cpu) / (images - before.images):.1f} s"
        before = mine
        lines.append(
            f"| {stage} | {images:,} | {other.seconds:.1f} s | {mine.seconds:.1f} s "
            f"| {mine.seconds / other.seconds:.2f} | {other.cpu:.1f} s | {mine.cpu:.1f} s "
            f"| {mine.cpu / other.cpu:.2f} | {aim} "
            f"| {other.peak / 1e9:.2f} GB | {mine.peak / 1e9:.2f} GB | {growth} |"
        )
    return head + "\n".join(lines)


def medians(costs: list[Cost], version: str) -> dict[tuple[str, int], Cost]:
    """For each stage and size of a version, the median seconds and the largest memory of its rounds."""
    found: dict[tuple[str, int], Cost] = {}
    for stage, images in sorted(
        {(c.stage, c.images) for c in costs}, key=lambda k: (STAGES.index(k[0]), k[1])
    ):
        own = [c for c in costs if (c.version, c.stage, c.images) == (version, stage, images)]
        seconds, cpu = (statistics.median(getattr(c, name) for c in own) for name in ("seconds", "cpu"))
        found[stage, images] = Cost(version, stage, images, seconds, cpu, max(c.peak for c in own))
    return found


if __name__ == "__main__":
    run_command(main)
