"""Where a long stage left off: a folder that outlives the run and is found again by its fingerprint.

It lies outside DVC's outputs, in `.resume/<stage>-<fingerprint>/` under the original repository, so that
experiments in temporary copies find it too. The fingerprint is made of all parameters and inputs of the
stage: a changed learning rate is another folder, and never goes on with the old run.
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

from fsgr_model.runtime.folder_lock import LOCK, OWNER, locked
from fsgr_model.runtime.stopping import Stopped
from fsgr_model.runtime.tensor_file import load_tensors, save_tensors

GONE = ".gone.partial"


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
        return any(file.name not in (LOCK, OWNER) for file in self.folder.iterdir())


@contextmanager
def resume_point(stage: str, fingerprint: str) -> Iterator[ResumePoint]:
    """Open and lock the folder of a run; when the block ends without an error, the folder is deleted.

    So the block must hold the writing of the stage's outputs. A lock dies with its process, so it is never
    stale. Two experiments of DVC's queue may come to the same stage at once: the later one waits, then runs
    it too.

    Raises:
        UserError: as `locked`; an experiment waits for another process that has it.
    """
    root = Path(os.environ.get("DVC_ROOT", "."))
    folder = root / ".resume" / f"{stage}-{fingerprint}"
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
