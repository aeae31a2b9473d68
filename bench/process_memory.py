"""The host memory of a stage at COCO's size, by the number of processes that share it.

    python -m bench.coco_size captions_val2017.json --against 7618f21 --shares 1 --folder KEPT
    python -m bench.process_memory KEPT/1/this

Training is measured until its loop begins, when all that stays is read. Memory is that of all processes
together at its largest, its shared pages counted once (PSS). The network is tiny, so what is measured is all
but the network.
"""

import argparse
import tempfile
from pathlib import Path

import torch
import yaml

from bench.coco_size import CHANGES, LOOP_BEGINS, run_stage, write_params
from bench.rows import device_name, put_into_page
from fsgr_model.runtime.artifacts import load_json, load_yaml, save_json
from fsgr_model.runtime.errors import run_command

PAGE, RESULTS = Path("docs/experiments/processes.md"), Path("bench/results/process_memory.json")
LINKED = ("dataset", "clip", "features", "codebook", "vocab", "models")
# Of the whole, and of each process.
AIM_GB, AIM_GB_EACH = 1.0, 0.25


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("project", type=Path, help="a project of bench.coco_size")
    parser.add_argument("--stage", choices=LOOP_BEGINS, default="train_xe")
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2, 4, 8])
    given = parser.parse_args()
    known = load_json(RESULTS) if RESULTS.exists() else {}
    with tempfile.TemporaryDirectory() as name:
        for processes in given.processes:
            folder = make_project(Path(name) / str(processes), given.project.resolve(), processes)
            seconds, peak = run_stage(folder, Path.cwd(), given.stage, LOOP_BEGINS[given.stage])
            known.setdefault(given.stage, {})[str(processes)] = {"seconds": seconds, "peak": peak}
            print(f"{given.stage}, {processes}: {peak / 1e9:.2f} GB, {seconds:.0f} s", flush=True)
            RESULTS.parent.mkdir(parents=True, exist_ok=True)
            save_json(RESULTS, known)
    put_into_page(PAGE, "process_memory", markdown(known))


def make_project(folder: Path, project: Path, processes: int) -> Path:
    """A folder with links to the project's data, and its parameters with so many processes."""
    (folder / "data").mkdir(parents=True)
    for name in LINKED:
        (folder / "data" / name).symlink_to(project / "data" / name)
    (folder / "concepts.txt").symlink_to(project / "concepts.txt")
    write_params(folder, Path.cwd(), CHANGES)
    values = load_yaml(folder / "params.yaml")
    values["runtime"] = values.get("runtime", {}) | {"processes": processes}
    (folder / "params.yaml").write_text(yaml.safe_dump(values, sort_keys=False), encoding="utf-8")
    return folder


def markdown(known: dict[str, dict[str, dict[str, float]]]) -> str:
    """A row for each stage and number of processes."""
    device = device_name(torch.device("cpu"))
    lines = [
        f"`python -m bench.process_memory` on {device}: 123,287 images with five captions each, until the "
        "loop begins.",
        "",
        "| stage | processes | memory of all (PSS) | aim |",
        "|---|---|---|---|",
    ]
    for stage, by_number in known.items():
        for number, found in sorted(by_number.items(), key=lambda item: int(item[0])):
            aim = AIM_GB + AIM_GB_EACH * int(number)
            lines.append(f"| {stage} | {number} | {found['peak'] / 1e9:.2f} GB | at most {aim:.2f} GB |")
    return "\n".join(lines)


if __name__ == "__main__":
    run_command(main)
