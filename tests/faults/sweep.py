"""Refuse every place of the project: python -m tests.faults.sweep FOLDER KIND [PART PARTS]

Everything is done in one process and its forks. A line of JSON a refusal goes to FOLDER/outcomes, the places
that were reached to FOLDER/reached. KIND `once` refuses each place with one error, the next one with the next
error, and `few` does so for two commands alone; `ways` takes two errors for each way that leads to a place;
`errors` tries all at each place.
Of PARTS sweeps side by side, each one takes its part of the errors.
"""

import errno
import gc
import itertools
import json
import math
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import yaml

from tests.faults.places import GATE, Place, gate, instrument

NAMES = (
    "ENOLCK", "ENOSYS", "EACCES", "EPERM", "EROFS", "ENOSPC", "EDQUOT", "EIO", "ESTALE", "EMFILE", "ENFILE",
    "EAGAIN", "ENAMETOOLONG", "ELOOP", "ENOTDIR", "EISDIR", "EBUSY", "ETXTBSY", "ENOENT", "EEXIST",
    "ENOTEMPTY", "ETIMEDOUT", "EREMOTEIO", "ENODEV", "ENXIO", "EINVAL", "ENOMEM", "EXDEV", "EOPNOTSUPP",
    "EDEADLK", "EMLINK", "EFBIG", "ENOTCONN", "EHOSTDOWN", "EILSEQ", "EUCLEAN", "EBADMSG",
)  # fmt: skip
# 524: Linux's own, which NFS lets out at times; it has no name.
NUMBERS = [*(getattr(errno, name) for name in NAMES if hasattr(errno, name)), 524]
# Path's own questions take these errors for the answer "no".
QUESTIONS = ("exists", "is_file", "is_dir", "is_symlink")
NO = (errno.ENOENT, errno.ENOTDIR, errno.EBADF, errno.ELOOP)
# How many errors a place gets, and how many callers tell two ways to it apart; the errors come in turns.
SWEEPS = {"few": (1, 0), "once": (1, 0), "ways": (2, 3), "errors": (len(NUMBERS), 0)}


class Turns:
    """The next few of `numbers` for each that asks."""

    def __init__(self, count: int, numbers: Sequence[int]) -> None:
        self.count = min(count, len(numbers))
        self._all = itertools.cycle(numbers)

    def __call__(self, place: Place) -> list[int]:
        possible = (number for number in self._all if number not in impossible(place))
        return list(dict.fromkeys(itertools.islice(possible, self.count)))


def impossible(place: Place) -> tuple[int, ...]:
    """The errors that a place cannot have."""
    return NO if place.call.rpartition(".")[2] in QUESTIONS else ()


def main(folder: Path, kind: str, part: int = 0, parts: int = 1) -> None:
    instrument()
    # What imports the project comes after that.
    import torch

    from fsgr_model.clip import image_reading
    from tests.faults.rare import RARE
    from tests.faults.refusing import Refusals, say_where_at_a_signal, write
    from tests.faults.tree import Tree
    from tests.faults.watch import Watch
    from tests.faults.world import COMMANDS, STAGES, Driver, build

    torch.set_num_threads(1)
    torch.autograd.set_multithreading_enabled(False)
    say_where_at_a_signal()
    errors, callers = SWEEPS[kind]
    refusals = Refusals(Turns(math.ceil(errors / parts), NUMBERS[part::parts]), callers)
    begin(folder / "world")
    build(Path.cwd())
    watch = Watch(folder)
    drivers = [STAGES[0], COMMANDS[0]] if kind == "few" else [*STAGES, *COMMANDS, *RARE]
    for driver in [] if kind == "few" else STAGES:
        driver.main()

    def run(driver: Driver) -> None:
        project, aside = folder / "project", folder / "aside"
        for each in (project, aside):
            shutil.rmtree(each, ignore_errors=True)
        shutil.copytree(folder / "world", project)
        aside.mkdir()
        begin(project)
        # Workers that are killed leave folders there.
        image_reading.SHARED_MEMORY = project / "tmp"
        params = yaml.safe_load(Path("params.yaml").read_text())
        driver.prepare(params)
        Path("params.yaml").write_text(yaml.safe_dump(params))
        signal.signal(signal.SIGPIPE, signal.SIG_IGN)
        GATE[0] = refusals.gate
        try:
            watch.on = True
            refusals.run(driver, Tree(project, aside))
        finally:
            GATE[0], watch.on = gate, False

    # A fork would copy what the collector looks at.
    gc.disable()
    gc.freeze()
    for driver in drivers:
        run(driver)
    (folder / "outcomes").write_text("\n".join(write(refusals.outcomes)), encoding="utf-8")
    (folder / "no_file").write_text(json.dumps([place.text for place in refusals.no_file]))
    (folder / "unknown").write_text("\n".join(sorted(watch.unknown)))
    (folder / "reached").write_text(json.dumps([list(p.__dict__.values()) for p in sorted(refusals.reached)]))


def begin(project: Path) -> None:
    project.mkdir(exist_ok=True)
    (project / "tmp").mkdir(exist_ok=True)
    os.chdir(project)
    tempfile.tempdir = str(project / "tmp")
    os.environ |= {"DVC_ROOT": str(project), "TMPDIR": str(project / "tmp")}


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve(), sys.argv[2], *map(int, sys.argv[3:]))
