"""The memory of a training step: the estimate that is printed before training, and the measured peak.

    python -m bench.memory --params presets/coco.yaml

Each phase takes a few steps on made-up data of the real sizes in a process of its own. On a CPU few images
are measured and the whole batch is estimated; on a GPU the whole batch is measured.
"""

import argparse
import json
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from bench.destination import parser_of
from bench.limits import measure_limits
from bench.rows import Row, publish
from fsgr_model.checkup.blueprint import draw_blueprint
from fsgr_model.checkup.dataset import DatasetSize
from fsgr_model.checkup.timing import Steps, picture_sides
from fsgr_model.clip.open_clip_api import open_clip
from fsgr_model.config.params import Params, load_params
from fsgr_model.runtime.device import pick_device
from fsgr_model.runtime.errors import UserError, run_command
from fsgr_model.training.step_memory import GB, StepSize, step_bytes

PHASES = ("XE", "SCST")
CONCEPTS, WORDS = 4_585, 10_201
# COCO's captions: nearly all have at most 20 words.
CAPTIONS, LONGEST = 5, 19
STEPS = 2
STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def main(arguments: list[str] | None = None) -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--params", type=Path, default=Path("presets/coco.yaml"), metavar="FILE")
    parser.add_argument(
        "--images", type=int, nargs="+", default=[2, 6], help="images per step that are measured"
    )
    parser.add_argument("--measure", nargs=2, metavar=("PHASE", "IMAGES"), help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    params = load_params(given.params)
    if given.measure:
        phase, images = given.measure
        print(json.dumps(measured(params, phase, int(images))))
        return
    device = pick_device()
    rows = [row for phase in PHASES for row in phase_rows(given.params, params, phase, given.images)]
    publish("memory", rows, measure_limits(device), device, out=given.out, page=given.page)


def phase_rows(file: Path, params: Params, phase: str, images: Sequence[int]) -> list[Row]:
    """A measured row for each number of images, beside its estimate, and the estimate of the whole batch."""
    batch = params.xe.batch_size if phase == "XE" else params.scst.batch_size
    counts = [*images, batch] if pick_device().type == "cuda" else images
    rows = []
    for count in counts:
        found = in_a_process(file, phase, count)
        rows.append(
            Row(
                f"{phase} step of {count} images, peak",
                found["measured"] / GB,
                "GB",
                ratio=found["estimate"] / found["measured"],
                than="of it is estimated",
            )
        )
    return [*rows, Row(f"{phase} step of {batch} images, estimate", found["whole"] / GB, "GB")]


def in_a_process(file: Path, phase: str, images: int) -> dict[str, float]:
    """`measured` in a new process: peaks of memory are a process's own."""
    command = [sys.executable, "-W", "ignore", "-m", "bench.memory", "--params", str(file)]
    done = subprocess.run([*command, "--measure", phase, str(images)], capture_output=True, encoding="utf-8")
    if done.returncode:
        raise UserError(f"{phase} with {images} images failed: {done.stderr.strip()[-500:]}")
    return json.loads(done.stdout.splitlines()[-1])


def measured(params: Params, phase: str, images: int) -> dict[str, float]:
    """Bytes of the peak of a step with its weights, of the estimate, and of the estimate of a whole batch."""
    config = clip_config(params)
    device = pick_device()
    plan = draw_blueprint(config, "bench", params, CONCEPTS, words=WORDS, device=device)
    size = DatasetSize({"train": 1, "val": 1, "test": 1}, CAPTIONS, LONGEST, Counter(), CAPTIONS)
    steps = Steps(plan, size, picture_sides(config), params)
    weights = sum(weight.nbytes for weight in plan.captioner.parameters())
    before = begin(device)
    for _ in range(STEPS):
        (steps.xe if phase == "XE" else steps.scst)(images)
    words = CAPTIONS * (LONGEST + 1) if phase == "XE" else params.scst.samples * params.scst.max_length
    batch = params.xe.batch_size if phase == "XE" else params.scst.batch_size
    estimate, whole = (
        step_bytes(plan.captioner, StepSize(count, words, plan.token_shape)) for count in (images, batch)
    )
    return {"measured": peak(device) - before + weights, "estimate": estimate, "whole": whole}


def clip_config(params: Params) -> dict[str, Any]:
    """The architecture that the parameters name.

    Raises:
        UserError: open_clip does not know it.
    """
    config = open_clip.get_model_config(params.clip.model)
    if config is None:
        path = Path(params.clip.model)
        if not path.is_file():
            raise UserError(f"clip.model {params.clip.model} is neither a model of open_clip nor a file")
        config = json.loads(path.read_text(encoding="utf-8"))
    return config


def begin(device: torch.device) -> float:
    """Forget earlier peaks; the bytes in use now."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return torch.cuda.memory_allocated(device)
    if not CLEAR.exists():
        raise UserError("on a CPU this benchmark needs Linux, which tells the peak of a process's memory")
    CLEAR.write_text("5")
    return status("VmRSS")


def peak(device: torch.device) -> float:
    """The most bytes in use since `begin`."""
    return torch.cuda.max_memory_allocated(device) if device.type == "cuda" else status("VmHWM")


def status(name: str) -> float:
    """A line of the process's status, in bytes."""
    line = next(line for line in STATUS.read_text().splitlines() if line.startswith(name))
    return 1024 * int(line.split()[1])


if __name__ == "__main__":
    run_command(main)
