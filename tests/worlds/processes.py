"""Work of a test in several processes that share nothing but PyTorch's process group."""

import multiprocessing
import os
import pickle
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from fsgr_model.runtime.world import Group

# A collective waits so long; whoever has not ended by then is ended.
PATIENCE, LIMIT_SECONDS = timedelta(seconds=60), 120.0


def in_processes(
    size: int, folder: Path, work: Callable[..., Any], *given: Any, patience: timedelta = PATIENCE
) -> list[Any]:
    """What `work(group, *given)` returns in each of `size` forked processes, by rank."""
    folder.mkdir(parents=True)
    context = multiprocessing.get_context("fork")
    torch.set_num_threads(1)
    started = [
        context.Process(target=_one, args=(rank, size, folder, work, given, patience), daemon=True)
        for rank in range(size)
    ]
    for process in started:
        process.start()
    end = time.monotonic() + LIMIT_SECONDS
    for process in started:
        process.join(max(0.0, end - time.monotonic()))
        if process.exitcode is None:
            process.kill()
            process.join()
    assert [process.exitcode for process in started] == [0] * size
    return [pickle.loads((folder / f"{rank}").read_bytes()) for rank in range(size)]


def _one(
    rank: int,
    size: int,
    folder: Path,
    work: Callable[..., Any],
    given: tuple[Any, ...],
    patience: timedelta,
) -> None:
    # No signal that is sent to its group reaches the process that runs the tests.
    os.setsid()
    store = dist.FileStore(str(folder / "store"), size)
    dist.init_process_group("gloo", store=store, rank=rank, world_size=size, timeout=patience)
    result = work(Group(store, patience), *given)
    (folder / f"{rank}").write_bytes(pickle.dumps(result))
    dist.destroy_process_group()
