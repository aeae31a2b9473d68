"""Refuse every place of the project: python -m tests.faults.sweep FOLDER [wide]

Everything is done in one process and its forks. A line of JSON a refusal goes to FOLDER/outcomes, the places
that were reached to FOLDER/reached. A place is refused with one error, the next one with the next error; in
the wide sweep it is every way that leads to a place, with several errors.
"""

import errno
import gc
import itertools
import json
import os
import shutil
import signal
import sys
import tempfile
from pathlib import Path

import yaml

from tests.faults.places import GATE, Place, gate, instrument

NAMES = (
    "ENOLCK", "ENOSYS", "EACCES", "EPERM", "EROFS", "ENOSPC", "EDQUOT", "EIO", "ESTALE", "EMFILE", "ENFILE",
    "EAGAIN", "ENAMETOOLONG", "ELOOP", "ENOTDIR", "EISDIR", "EBUSY", "ETXTBSY", "ENOENT", "EEXIST",
    "ENOTEMPTY", "ETIMEDOUT", "EREMOTEIO", "ENODEV", "ENXIO", "EINVAL", "ENOMEM", "EXDEV", "EOPNOTSUPP",
    "EDEADLK", "EMLINK", "EFBIG",
)  # fmt: skip
# 524: Linux's own, which NFS lets out at times; it has no name.
NUMBERS = [*(getattr(errno, name) for name in NAMES if hasattr(errno, name)), 524]
# Path's own questions take these errors for the answer "no".
QUESTIONS = ("exists", "is_file", "is_dir", "is_symlink")
NO = (errno.ENOENT, errno.ENOTDIR, errno.EBADF, errno.ELOOP)
# A file that is there and is not, for ever: who asks again and again would never end.
CONTRADICTIONS = {
    "_taken: owner.open": (errno.ENOENT, errno.EEXIST),
    "_taken: owner.read_text": (errno.ENOENT,),
    "_taken: owner.unlink": (errno.ENOENT,),
    "_taken: opened.write": (errno.ENOENT, errno.EEXIST),
    "_wait_for: owner.read_text": (errno.ENOENT,),
}
# How many errors a place gets, and how many callers tell two ways to it apart; the errors come in turns.
SWEEPS = {"once": (1, 0), "ways": (2, 3), "errors": (len(NUMBERS), 0)}


class Turns:
    """The next few errors for each that asks."""

    def __init__(self, count: int) -> None:
        self.count = count
        self._all = itertools.cycle(NUMBERS)

    def __call__(self, place: Place) -> list[int]:
        question = place.call.rpartition(".")[2] in QUESTIONS
        impossible = CONTRADICTIONS.get(place.text, ()) + (NO if question else ())
        possible = (number for number in self._all if number not in impossible)
        return list(itertools.islice(possible, self.count))


def main(folder: Path, errors: int, callers: int) -> None:
    instrument()
    # What imports the project comes after that.
    import torch

    from tests.faults.rare import RARE
    from tests.faults.refusing import Refusals, write
    from tests.faults.tree import Tree
    from tests.faults.watch import Watch
    from tests.faults.world import COMMANDS, STAGES, Driver, build

    torch.set_num_threads(1)
    torch.autograd.set_multithreading_enabled(False)
    refusals = Refusals(Turns(errors), callers)
    begin(folder / "world")
    build(Path.cwd())
    watch = Watch(folder)
    for driver in STAGES:
        driver.main()

    def run(driver: Driver) -> None:
        project, aside = folder / "project", folder / "aside"
        for each in (project, aside):
            shutil.rmtree(each, ignore_errors=True)
        shutil.copytree(folder / "world", project)
        aside.mkdir()
        begin(project)
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
    for driver in (*STAGES, *COMMANDS, *RARE):
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
    main(Path(sys.argv[1]).resolve(), *SWEEPS[sys.argv[2]])
