"""Where cached features wait for training: in their file, in memory, or on the GPU. No result depends on it.

Shapes: N rows, B images.
"""

from collections.abc import Sequence
from typing import Literal, Protocol

import numpy as np
import psutil
import torch
from torch import Tensor

from fsgr_model.runtime.errors import UserError
from fsgr_model.runtime.row_store import RowStore, groups_of

Place = Literal["gpu", "ram", "disk"]
AskedPlace = Literal["auto", "gpu", "ram", "disk"]
GB = 1e9
ROWS_A_COPY = 512
# Of the memory that is free: the step's estimate is rough, and other programs want to live.
USABLE = {"gpu": 0.9, "ram": 0.5}


class Rows(Protocol):
    """Reads rows by image id."""

    def tensors(self, image_ids: Sequence[int]) -> Tensor:
        """[B, *row_shape]: on the GPU if they wait there, else on the CPU, pinned where a GPU takes them."""


class DiskRows:
    """Reads from the file, that is mostly from the system's page cache."""

    def __init__(self, store: RowStore, pinned: bool = False) -> None:
        self.store, self.pinned = store, pinned

    def tensors(self, image_ids: Sequence[int]) -> Tensor:
        """As `Rows`."""
        rows = _empty(len(image_ids), self.store, self.pinned)
        self.store.rows(image_ids, out=rows.numpy())
        return rows


class HeldRows:
    """All rows in the memory of `device`, copied there once."""

    def __init__(self, store: RowStore, device: torch.device, pinned: bool = False) -> None:
        self.store, self.pinned = store, pinned
        self.row_of = {image_id: row for row, image_id in enumerate(store.image_ids)}
        self.rows = torch.empty((len(store), *store.row_shape), dtype=_torch_dtype(store), device=device)
        for group in groups_of(range(len(store)), ROWS_A_COPY):
            ids = [store.image_ids[row] for row in group]
            self.rows[group[0] : group[-1] + 1] = torch.from_numpy(store.rows(ids))

    def tensors(self, image_ids: Sequence[int]) -> Tensor:
        """As `Rows`."""
        places = [self.row_of[image_id] for image_id in image_ids]
        if self.rows.device.type != "cpu":
            return self.rows[torch.tensor(places, device=self.rows.device)]
        found = _empty(len(places), self.store, self.pinned)
        # By NumPy, which copies in this thread. PyTorch would start threads of OpenMP for the thread that
        # reads ahead, beside those of the one that trains, and both then wait for each other asleep.
        np.take(self.rows.numpy(), places, axis=0, out=found.numpy(), mode="clip")
        return found


def hold_rows(store: RowStore, place: Place, device: torch.device) -> Rows:
    """The rows of a store in that place, for training on `device`."""
    to_gpu = device.type == "cuda"
    match place:
        case "gpu":
            return HeldRows(store, device)
        case "ram":
            return HeldRows(store, torch.device("cpu"), pinned=to_gpu)
        case "disk":
            return DiskRows(store, pinned=to_gpu)


def choose_place(asked: AskedPlace, needed: int, step: int, device: torch.device) -> Place:
    """Where `needed` bytes of features fit beside the `step` bytes of a training step; the fastest if `auto`.

    Raises:
        UserError: a place is asked for that there is not, or that is too small; with both numbers.
    """
    free: dict[Place, float] = {"ram": psutil.virtual_memory().available}
    if device.type == "cuda":
        free["gpu"] = torch.cuda.mem_get_info(device)[0] - step
    else:
        free["ram"] -= step
    usable = {place: USABLE[place] * count for place, count in free.items()}
    if asked == "auto":
        fastest_first: tuple[Place, ...] = ("gpu", "ram")
        return next((place for place in fastest_first if needed <= usable.get(place, 0)), "disk")
    if asked == "gpu" and device.type != "cuda":
        raise UserError(f"runtime.cache is gpu, but this run is on {device}; set it to auto, ram or disk")
    if asked != "disk" and needed > usable[asked]:
        raise UserError(
            f"runtime.cache is {asked}, but the features take {needed / GB:.2f} GB, and beside a step "
            f"{max(usable[asked], 0) / GB:.2f} GB of that memory may be used; set it to auto"
        )
    return asked


def _empty(count: int, store: RowStore, pinned: bool) -> Tensor:
    """Memory for so many rows."""
    shape = (count, *store.row_shape)
    if pinned:
        return torch.empty(shape, dtype=_torch_dtype(store), pin_memory=True)
    # NumPy's, which has large pages. PyTorch's, in the thread that reads ahead, goes back to the system after
    # each batch, and making its small pages anew takes as long as to copy the rows.
    return torch.from_numpy(np.empty(shape, dtype=store.dtype))


def _torch_dtype(store: RowStore) -> torch.dtype:
    return getattr(torch, store.dtype.name)
