"""A disk that runs full, at every stage: one line, nothing half written, and the next run goes through.

    unshare --map-root-user --mount python -m bench.full_disk     # Linux; as root without unshare

Each stage of a small copy of the project runs with `data`, `plots`, `metrics` and `.resume` on a file system
in memory that has room for only a part of what the stage writes, then again with room enough. Prints one row
per stage and ends with exit code 1 if a stage said more or less than one line, or left anything half written.
"""

import argparse
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from bench.scratch import STAGES, Scratch
from fsgr_model.runtime.errors import UserError, run_command

TINY = {
    "dataset.demo": {"train_images": 24, "val_images": 6, "test_images": 6},
    "clip.training.epochs": 1,
    "xe.epochs": 1,
    "xe.schedule": None,
    "scst.epochs": 1,
    "runtime.workers": 0,
    "runtime.image_batch": 8,
}
WRITTEN = ("data", "plots", "metrics", ".resume")
MESSAGES = ("error: no space left on the disk", "but its disk has")
# Bytes; of less than that no part is sure to be too little, so there is no room at all.
SMALL_OUTPUT = 65_536
# What each stage writes, or the last of it where it writes several things, each of them whole.
OUTPUTS = {
    "dataset": "data/dataset",
    "clip": "data/clip",
    "features": "data/features",
    "codebook": "data/codebook",
    "labels": "data/labels",
    "vocab": "data/vocab",
    "train_xe": "data/models/xe",
    "train_scst": "data/models/scst",
    "captions": "data/captions/scst.json",
    "evaluate": "plots/sheet.png",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--room", type=float, default=0.5, help="share of what a stage writes that fits")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        scratch = Scratch(Path(folder) / "project", TINY)
        # What git keeps of the last results.
        for made in ("metrics/xe.json", "metrics/scst.json", "plots/sheet.png"):
            (scratch.folder / made).unlink()
        place = Path(folder) / "full"
        place.mkdir()
        bad = [stage for stage in STAGES if not survives(scratch, stage, place, given.room)]
    if bad:
        raise UserError(f"{bad} did not end in one line and whole files")


def survives(scratch: Scratch, stage: str, place: Path, room: float) -> bool:
    """Run a stage on too small a file system, then on the real one."""
    before = used(scratch.folder)
    in_fork(scratch, stage)
    needed = used(scratch.folder) - before
    remove(scratch.folder / OUTPUTS[stage])
    free = int(room * needed) if needed > SMALL_OUTPUT else 0
    code, said = on_small_disk(scratch, stage, place, free)
    whole = not (scratch.folder / OUTPUTS[stage]).exists() and not list(scratch.folder.rglob("*.partial"))
    one_line = code != 0 and len(said) == 1 and any(message in said[0] for message in MESSAGES)
    print(f"{stage}: {needed / 1e6:.2f} MB needed: exit code {code}, {said}, nothing half written: {whole}")
    again, _ = in_fork(scratch, stage)
    return again == 0 and one_line and whole


def on_small_disk(scratch: Scratch, stage: str, place: Path, free: int) -> tuple[int, list[str]]:
    """Exit code and error lines of a stage whose folders lie on a file system with `free` bytes free."""
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", place], check=True)
    try:
        for name in WRITTEN:
            (scratch.folder / name).mkdir(exist_ok=True)
            shutil.copytree(scratch.folder / name, place / name, symlinks=True)
            subprocess.run(["mount", "--bind", place / name, scratch.folder / name], check=True)
        taken = (status := os.statvfs(place)).f_frsize * (status.f_blocks - status.f_bfree)
        subprocess.run(["mount", "-o", f"remount,size={taken + free}", place], check=True)
        code, output = in_fork(scratch, stage)
        left = [str(path) for name in WRITTEN for path in (place / name).rglob("*.partial")]
        made = (scratch.folder / OUTPUTS[stage]).exists()
        said = [line for line in output if "error" in line.lower() or "Traceback" in line]
        return code, said + [f"left: {path}" for path in left] + ["made"] * made
    finally:
        for name in WRITTEN:
            subprocess.run(["umount", scratch.folder / name], check=False)
        subprocess.run(["umount", place], check=True)


def in_fork(scratch: Scratch, stage: str) -> tuple[int, list[str]]:
    """Exit code and output of a stage."""
    log = scratch.folder / "output.log"
    log.unlink(missing_ok=True)
    _, status = os.waitpid(scratch.fork(stage, log), 0)
    return os.waitstatus_to_exitcode(status), log.read_text().splitlines()


def used(folder: Path) -> int:
    """Bytes that the files take on a file system of pages of 4 kB, each folder one page."""
    paths = [path for name in WRITTEN for path in (folder / name).rglob("*")]
    return sum(4096 * (1 + path.stat().st_size // 4096 * path.is_file()) for path in paths)


def remove(path: Path) -> None:
    shutil.rmtree(path) if path.is_dir() else path.unlink()


if __name__ == "__main__":
    run_command(main)
