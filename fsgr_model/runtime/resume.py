"""Saved state of a long stage: a folder that outlives the run and is found again by its fingerprint.

It lies outside DVC's outputs, in `.resume/<stage>-<fingerprint>/` under the original repository, so that
experiments in temporary copies find it too. The fingerprint is made of all parameters and inputs of the
stage: a changed learning rate gives another folder, so the old run is never continued with it. What enters it
is listed where a stage calls `resume_point`: training in `training/run.py`, the others in `pipeline/`.
"""

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from fsgr_model.runtime.artifacts import project_root
from fsgr_model.runtime.folder_lock import LOCK, OWNER, locked
from fsgr_model.runtime.stopping import Stopped
from fsgr_model.runtime.tensor_file import load_tensors, save_tensors
from fsgr_model.runtime.world import World

GONE = ".gone.partial"
RESUME = Path(".resume")


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
        """The saved state, or None if the stage starts from the beginning.

        Raises:
            UserError: the file is damaged.
        """
        if not self.state_file.exists():
            return None
        tensors, facts = load_tensors(self.state_file, f"delete {self.folder} to start this stage again")
        return tensors, json.loads(facts["progress"])

    def _forget(self) -> None:
        """Delete the folder: it is renamed first, so that its name is free at once."""
        gone = self.folder.with_name(f"{self.folder.name}.{os.getpid()}{GONE}")
        self.folder.replace(gone)
        shutil.rmtree(gone)

    def _holds_something(self) -> bool:
        return any(file.name not in (LOCK, OWNER) for file in self.folder.iterdir())


@contextmanager
def resume_point(stage: str, fingerprint: str) -> Iterator[ResumePoint]:
    """Open and lock the folder of a run; when the block ends without an error, the folder is deleted.

    So the stage's outputs must be written within the block. A lock is released with its process, so it is
    never stale. Two experiments of DVC's queue may reach the same stage at the same time: the later one
    waits, then runs it too.

    Raises:
        UserError: as `locked`; an experiment waits for another process that has it.
    """
    folder = _folder(stage, fingerprint)
    with locked(folder, wait="DVC_EXP_NAME" in os.environ):
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


@contextmanager
def shared_resume_point(stage: str, fingerprint: str, world: World) -> Iterator[ResumePoint]:
    """The same for all processes of a run: rank 0 locks, writes and deletes, the others only read.

    Raises:
        UserError: as `resume_point`.
    """
    if world.rank == 0:
        with resume_point(stage, fingerprint) as point:
            world.wait_for_first(f"{stage} is locked")
            yield point
    else:
        world.wait_for_first(f"{stage} is locked")
        yield ResumePoint(_folder(stage, fingerprint))


def _folder(stage: str, fingerprint: str) -> Path:
    return project_root() / RESUME / f"{stage}-{fingerprint}"
