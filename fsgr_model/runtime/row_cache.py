"""Where cached features are kept for training: in their file, in memory, or on the GPU. Results are the same.

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
# A share of the free memory: the estimate for a step is rough, and other programs need memory too.
USABLE = {"gpu": 0.9, "ram": 0.5}


class Rows(Protocol):
    """Reads rows by image id."""

    def tensors(self, image_ids: Sequence[int]) -> Tensor:
        """[B, *row_shape]: on the GPU if they are kept there, else on the CPU, pinned if a GPU reads them."""


class DiskRows:
    """Reads from the file, which mostly means from the system's page cache."""

    def __init__(self, store: RowStore, pinned: bool = False) -> None:
        self.store, self.pinned = store, pinned

    def tensors(self, image_ids: Sequence[int]) -> Tensor:
        """As `Rows`."""
        rows = _empty(len(image_ids), self.store, self.pinned)
        self.store.rows(image_ids, out=rows.numpy())
        return rows


class MemoryRows:
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
        # NumPy copies in this thread. PyTorch would start OpenMP threads for the thread that reads ahead, in
        # addition to those of the training thread, and both would then sleep while they wait for each other.
        np.take(self.rows.numpy(), places, axis=0, out=found.numpy(), mode="clip")
        return found


def open_rows(store: RowStore, place: Place, device: torch.device) -> Rows:
    """A reader of the rows of a store, kept in `place`, for training on `device`."""
    to_gpu = device.type == "cuda"
    match place:
        case "gpu":
            return MemoryRows(store, device)
        case "ram":
            return MemoryRows(store, torch.device("cpu"), pinned=to_gpu)
        case "disk":
            return DiskRows(store, pinned=to_gpu)


def choose_place(
    asked: AskedPlace, *, needed: int, step: int, device: torch.device, copies: int = 1
) -> Place:
    """Where `needed` bytes of features fit beside the `step` bytes of a training step; the fastest if `auto`.

    `copies`: the processes of this machine. Each would hold a copy in memory, so with several `auto` leaves
    them in their file, whose pages in the system's cache they share.

    Raises:
        UserError: the place that is asked for does not exist, or is too small; the message has both numbers.
    """
    free: dict[Place, float] = {"ram": psutil.virtual_memory().available / copies}
    if device.type == "cuda":
        free["gpu"] = torch.cuda.mem_get_info(device)[0] - step
    else:
        free["ram"] -= step
    usable = {place: USABLE[place] * count for place, count in free.items()}
    if asked == "auto":
        fastest_first: tuple[Place, ...] = ("gpu", "ram") if copies == 1 else ("gpu",)
        return next((place for place in fastest_first if needed <= usable.get(place, 0)), "disk")
    if asked == "gpu" and device.type != "cuda":
        raise UserError(f"runtime.cache is gpu, but this run is on {device}; set it to auto, ram or disk")
    if asked != "disk" and needed > usable[asked]:
        raise UserError(
            f"runtime.cache is {asked}, but the features take {needed / GB:.2f} GB, and beside a training "
            f"step {max(usable[asked], 0) / GB:.2f} GB of that memory may be used; set it to auto"
        )
    return asked


def _empty(count: int, store: RowStore, pinned: bool) -> Tensor:
    """An uninitialised tensor for `count` rows."""
    shape = (count, *store.row_shape)
    if pinned:
        return torch.empty(shape, dtype=_torch_dtype(store), pin_memory=True)
    # NumPy's memory has large pages. PyTorch's, in the thread that reads ahead, goes back to the system after
    # each batch, and to map its small pages again takes as long as to copy the rows.
    return torch.from_numpy(np.empty(shape, dtype=store.dtype))


def _torch_dtype(store: RowStore) -> torch.dtype:
    return getattr(torch, store.dtype.name)
