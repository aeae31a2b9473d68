"""A copy of the project in a folder of its own, with a world so small that a stage takes seconds."""

import importlib
import os
import shutil
import stat
import subprocess
import sys
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
import yaml
from torch.distributed.launcher import api

from fsgr_model.runtime.artifacts import load_yaml
from fsgr_model.runtime.errors import run_command

PREPARATION = ("dataset", "clip", "features", "codebook", "labels", "vocab")
LAUNCH = api.launch_agent
STAGES = (*PREPARATION, "train_xe", "train_scst", "captions", "evaluate")
# Many small steps, and a resume point every half second.
SMALL: dict[str, Any] = {
    "dataset.demo": {"train_images": 96, "val_images": 24, "test_images": 24},
    "clip.training.epochs": 6,
    "clip.training.batch_size": 16,
    "vocab.min_count": 1,
    "xe.epochs": 3,
    "xe.batch_size": 6,
    "scst.epochs": 2,
    "scst.batch_size": 6,
    "evaluate.java": [],
    "runtime.workers": 1,
    "runtime.image_batch": 2,
    "runtime.save_minutes": 0.01,
}


class Scratch:
    """The folder of such a copy. `environment` is what its commands run in: one thread, this interpreter."""

    def __init__(
        self,
        folder: Path,
        changes: dict[str, Any] | None = None,
        environment: dict[str, str] | None = None,
    ) -> None:
        self.folder = folder
        self.environment = environment or scratch_environment()
        if not (folder / "params.yaml").exists():
            copy_project(folder)
        write_params(folder / "params.yaml", SMALL | (changes or {}))

    def fork(self, stage: str, log: Path) -> int:
        """A new process that runs a stage in the folder, without the seconds that its imports take; its
        number. What it says is added to `log`. The processes that it starts are forked as well.
        """
        main = importlib.import_module(f"pipeline.{stage}").main
        api.launch_agent = partial(_fork_instead, main)
        # More threads than the forking one would be missing in its children.
        torch.set_num_threads(1)
        if child := os.fork():
            return child
        code = 1
        try:
            os.setsid()
            os.chdir(self.folder)
            output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            os.dup2(output, 1)
            os.dup2(output, 2)
            run_command(main)
            code = 0
        except SystemExit as end:
            print(end, file=sys.stderr)
        except BaseException:
            traceback.print_exc()
            raise
        finally:
            # Nothing of the forking process's own may run on in the child.
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)

    def run(self, *command: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Any command in the folder."""
        return subprocess.run(
            command, cwd=self.folder, env=self.environment, check=check, capture_output=True, encoding="utf-8"
        )

    def run_stages(self, *stages: str) -> None:
        """These stages in this order; those whose outputs are there already are run again."""
        for stage in stages:
            self.run(sys.executable, "-m", f"pipeline.{stage}")


def _fork_instead(main: Callable[[], None], config: api.LaunchConfig, *command: Any) -> Any:
    """PyTorch's own start of several processes, but that they are forked and call `main`."""
    return LAUNCH(replace(config, start_method="fork"), _as_if_started, [main])


def _as_if_started(main: Callable[[], None]) -> None:
    """Call `main` without the sockets of the forking process, which would stay open when that is killed."""
    for number in [int(link.name) for link in Path("/proc/self/fd").iterdir()]:
        with suppress(OSError):
            if stat.S_ISSOCK(os.fstat(number).st_mode):
                os.close(number)
    run_command(main)


def scratch_environment() -> dict[str, str]:
    """One thread, this interpreter, and no trace of a pipeline that this may run in."""
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}
    environment["PATH"] = f"{Path(sys.executable).parent}:{environment['PATH']}"
    environment.pop("DVC_ROOT", None)
    return environment


def copy_project(folder: Path) -> None:
    """The files that git knows, as they are in the workspace."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        capture_output=True,
        encoding="utf-8",
        check=True,
    )
    for name in filter(None, listed.stdout.split("\0")):
        if Path(name).is_file() and not Path(name).is_symlink():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(name, folder / name)


def write_params(path: Path, changes: dict[str, Any]) -> None:
    """params.yaml of the demo with changes by dotted names."""
    values = load_yaml(Path("params.yaml"))
    for name, value in changes.items():
        *sections, key = name.split(".")
        inner = values
        for section in sections:
            inner = inner.setdefault(section, {})
        inner[key] = value
    path.write_text(yaml.safe_dump(values, sort_keys=False), encoding="utf-8")
