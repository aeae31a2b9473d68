"""Work of a test in several processes that share nothing but PyTorch's process group."""

import multiprocessing
import pickle
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from fsgr_model.runtime.world import Group


def in_processes(size: int, folder: Path, work: Callable[..., Any], *given: Any) -> list[Any]:
    """What `work(group, *given)` returns in each of `size` forked processes, by rank."""
    folder.mkdir(parents=True)
    context = multiprocessing.get_context("fork")
    torch.set_num_threads(1)
    started = [
        context.Process(target=_one, args=(rank, size, folder, work, given), daemon=True)
        for rank in range(size)
    ]
    for process in started:
        process.start()
    for process in started:
        process.join()
    assert [process.exitcode for process in started] == [0] * size
    return [pickle.loads((folder / f"{rank}").read_bytes()) for rank in range(size)]


def _one(rank: int, size: int, folder: Path, work: Callable[..., Any], given: tuple[Any, ...]) -> None:
    address = f"file://{folder / 'store'}"
    dist.init_process_group(
        "gloo", init_method=address, rank=rank, world_size=size, timeout=timedelta(seconds=60)
    )
    result = work(Group(), *given)
    (folder / f"{rank}").write_bytes(pickle.dumps(result))
    dist.destroy_process_group()
