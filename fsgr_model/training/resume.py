"""Where a long stage left off: a folder that outlives the run and is found again by its fingerprint.

It lies outside DVC's outputs, in `.resume/<stage>-<fingerprint>/` under the original repository, so that
experiments in temporary copies find it too. The fingerprint is made of all parameters and inputs of the
stage: a changed learning rate is another folder, and never goes on with the old run.
"""

import fcntl
import json
import os
import shutil
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from torch import Tensor

from fsgr_model.errors import UserError
from fsgr_model.stopping import Stopped
from fsgr_model.tensor_file import load_tensors, save_tensors

LOCK = "lock"
GONE = ".gone.partial"
HELD: weakref.WeakSet[IO[str]] = weakref.WeakSet()


def _let_go() -> None:
    """In a worker: it may outlive its killed parent for some seconds, and must not hold the lock on."""
    for lock in list(HELD):
        lock.close()


os.register_at_fork(after_in_child=_let_go)


@dataclass(frozen=True)
class ResumePoint:
    """A locked folder with at most one saved state."""

    folder: Path

    @property
    def state_file(self) -> Path:
        return self.folder / "state.safetensors"

    def save(self, tensors: dict[str, Tensor], progress: dict[str, Any]) -> None:
        """Replace the saved state at once. `progress` is JSON-like and travels in the same file."""
        save_tensors(self.state_file, tensors, {"progress": json.dumps(progress)})

    def load(self) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
        """The saved state, or None where the stage starts afresh.

        Raises:
            UserError: the file is damaged.
        """
        if not self.state_file.exists():
            return None
        tensors, facts = load_tensors(self.state_file, f"delete {self.folder} to begin this stage anew")
        return tensors, json.loads(facts["progress"])

    def _forget(self) -> None:
        """Delete the folder, which is gone at once: what is deleted bit by bit has another name."""
        gone = self.folder.with_name(f"{self.folder.name}.{os.getpid()}{GONE}")
        self.folder.replace(gone)
        shutil.rmtree(gone)

    def _holds_something(self) -> bool:
        return any(file.name != LOCK for file in self.folder.iterdir())


@contextmanager
def resume_point(stage: str, fingerprint: str) -> Iterator[ResumePoint]:
    """Open and lock the folder of a run; when the block ends without an error, the folder is deleted.

    So the block must hold the writing of the stage's outputs. The lock dies with the process, so it is never
    stale. Two experiments of DVC's queue may come to the same stage at once: the later one waits, then runs
    it too.

    Raises:
        UserError: another process holds it, and this is no experiment.
    """
    root = Path(os.environ.get("DVC_ROOT", "."))
    folder = root / ".resume" / f"{stage}-{fingerprint}"
    with _locked(folder):
        for left_behind in folder.parent.glob(f"{folder.name}.*{GONE}"):
            shutil.rmtree(left_behind, ignore_errors=True)
        point = ResumePoint(folder)
        try:
            yield point
        except Stopped as stop:
            if stop.kept is None and point._holds_something():
                stop.kept = f"what is done is kept in {folder}"
            raise
        point._forget()


def _locked(folder: Path) -> IO[str]:
    """The folder's open and locked file; the folder is made."""
    while True:
        folder.mkdir(parents=True, exist_ok=True)
        try:
            lock = (folder / LOCK).open("a+")
        except FileNotFoundError:
            # The run that was under way has just deleted the folder.
            continue
        HELD.add(lock)
        _lock(lock, folder)
        if _is_file(lock, folder / LOCK):
            lock.truncate(0)
            lock.write(str(os.getpid()))
            lock.flush()
            return lock
        # What was waited for is gone with its folder.
        lock.close()


def _lock(lock: IO[str], folder: Path) -> None:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        lock.seek(0)
        where = f"process {lock.read().strip() or '?'} ({folder})"
        if "DVC_EXP_NAME" not in os.environ:
            lock.close()
            raise UserError(
                f"this very run is already under way in {where}; wait for it or stop it"
            ) from None
        print(f"another experiment runs this very stage in {where}; waiting for it", flush=True)
        fcntl.flock(lock, fcntl.LOCK_EX)


def _is_file(opened: IO[str], path: Path) -> bool:
    return path.exists() and os.path.samestat(os.fstat(opened.fileno()), path.stat())
