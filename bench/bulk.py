"""Bulk captioning of very many pictures by a network that costs nothing: its memory, and a resumed run.

    python -m bench.bulk --pictures 1000000

All pictures are links to one of a single pixel, in one folder. What is measured is what the command itself
needs for a picture: searching, reading, decoding and writing.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any, cast

from PIL import Image

MB = 1 << 20


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pictures", type=int, default=1_000_000, metavar="N")
    parser.add_argument("--measure", nargs=2, type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.measure:
        print(json.dumps(measured(*given.measure)))
        return
    with tempfile.TemporaryDirectory(prefix="fsgr-bulk-") as place:
        for count in (given.pictures // 100, given.pictures):
            folder, out = links(Path(place), count), Path(place) / f"{count}.jsonl"
            for name in ("all", "nothing left"):
                print(f"{count:,} pictures, {name}: {in_a_process(folder, out)}", flush=True)


def links(place: Path, count: int) -> Path:
    """A folder with so many links to one picture."""
    Image.new("RGB", (1, 1)).save(place / "one.png")
    folder = place / f"{count}"
    folder.mkdir()
    for number in range(count):
        (folder / f"{number}.png").symlink_to(place / "one.png")
    return folder


def in_a_process(folder: Path, out: Path) -> str:
    """Run `measured` in a new process, whose peak of memory is its own."""
    command = [sys.executable, "-W", "ignore", "-m", "bench.bulk", "--measure", str(folder), str(out)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    found = json.loads(done.stdout.splitlines()[-1])
    with out.open() as file:
        paths = sum(1 for _ in file)
    return f"{paths:,} lines, {found['seconds']:.0f} s, {found['mb']:.0f} MB more than before"


def measured(folder: Path, out: Path) -> dict[str, float]:
    """Seconds, and by how much the peak of resident memory exceeds that of a run with one picture."""

    from fsgr_model.commands.bulk import caption_into
    from fsgr_model.commands.bulk_workers import Job
    from tests.worlds.free_network import FreeCaptioner

    job = Job(cast(Any, partial(FreeCaptioner, batch_size=50)))
    caption_into(out.with_suffix(".one"), [folder / "0.png"], job, processes=1, beside=False)
    before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.monotonic()
    caption_into(out, [folder], job, processes=1, beside=False)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {"seconds": time.monotonic() - start, "mb": (peak - before) * 1024 / MB}


if __name__ == "__main__":
    main()
