"""The limits of the machine, measured in the same run as the rows that are compared with them.

A limit is the best of several tries, since other processes can only make it look lower than it is.
"""

import os
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import cache, partial
from pathlib import Path

import torch
from torch import nn

from fsgr_model.kernels.onednn_layers import OneDnnLinear

MATRIX = {"cpu": 1536, "cuda": 8192}
SMALL_MATRIX = 256
COPIED_BYTES = {"cpu": 2**28, "cuda": 2**32}
FILE_BYTES, CHUNK_BYTES = 2**27, 2**23
TRIES = 5


@dataclass(frozen=True)
class Limits:
    """Matrix products in GFLOP/s (a multiplication and an addition count 2), the rest in GB/s.

    `memory`: bytes read plus bytes written by a large copy. `disk_read`: sequential, not from the page cache.
    `page_cache_read`: the same file once it is in memory. `matmul_onednn`: float32 products on a CPU by
    oneDNN, weights in its layout; None where there is no oneDNN.
    """

    matmul_float32: float
    matmul_bfloat16: float
    memory: float
    disk_write: float
    disk_read: float
    page_cache_read: float
    matmul_onednn: float | None = None

    @property
    def onednn_wins(self) -> bool:
        """Whether oneDNN multiplies float32 matrices faster than PyTorch's own products."""
        return self.matmul_onednn is not None and self.matmul_onednn > self.matmul_float32

    def describe(self) -> str:
        """One line."""
        known = ((name, value) for name, value in asdict(self).items() if value is not None)
        return "; ".join(f"{name.replace('_', ' ')} {value:.4g}" for name, value in known)


def measure_limits(device: torch.device | None = None, folder: Path | None = None) -> Limits:
    """Measure all limits: on `device` (default: the CPU), and of the disk of `folder` (default: here).

    Takes a few seconds, and 128 MiB of the disk meanwhile.
    """
    device = device or torch.device("cpu")
    return Limits(
        matmul_limit(device, torch.float32),
        matmul_limit(device, torch.bfloat16),
        memory_limit(device),
        *disk_limits(folder or Path()),
        matmul_limit(device, torch.float32, onednn=True) if has_onednn(device) else None,
    )


def matmul_limit(device: torch.device, dtype: torch.dtype, onednn: bool = False) -> float:
    """GFLOP/s of a large square product, with as many threads as PyTorch uses in this run."""
    return large_product(device, dtype, onednn).rate(device)


@dataclass(frozen=True)
class Product:
    """A matrix product, and how many operations it has."""

    run: Callable[[], object]
    flops: float

    def rate(self, device: torch.device) -> float:
        """GFLOP/s of the fastest of several tries."""
        return self.flops / best_seconds(self.run, device) / 1e9


def large_product(device: torch.device, dtype: torch.dtype, onednn: bool = False) -> Product:
    """A square product that takes part of a second at most; `onednn`: in float32, weights in its layout."""
    emulated = dtype == torch.bfloat16 and not multiplies_bfloat16(device)
    return square_product(device, dtype, SMALL_MATRIX if emulated else MATRIX[device.type], onednn)


def square_product(device: torch.device, dtype: torch.dtype, size: int, onednn: bool = False) -> Product:
    """A product of two matrices with so many rows and columns."""
    left = torch.randn(size, size, device=device, dtype=dtype)
    if onednn:
        return Product(partial(OneDnnLinear(nn.Linear(size, size, bias=False)), left), 2 * size**3)
    return Product(partial(torch.matmul, left, torch.randn_like(left)), 2 * size**3)


def has_onednn(device: torch.device) -> bool:
    """Whether PyTorch can multiply with oneDNN there."""
    return device.type == "cpu" and torch.backends.mkldnn.is_available()


@cache
def multiplies_bfloat16(device: torch.device) -> bool:
    """Whether the processor has instructions for bfloat16; where they are emulated, nothing is slower."""
    own, float32 = (
        square_product(device, dtype, SMALL_MATRIX).rate(device) for dtype in (torch.bfloat16, torch.float32)
    )
    return own > float32 / 4


def memory_limit(device: torch.device) -> float:
    """GB/s of a copy too large for any cache."""
    source = torch.ones(COPIED_BYTES[device.type], dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    return 2 * len(source) / best_seconds(lambda: target.copy_(source), device) / 1e9


def disk_limits(folder: Path) -> tuple[float, float, float]:
    """GB/s of writing down to the disk, of reading from it, and of reading from the page cache."""
    with tempfile.TemporaryDirectory(dir=folder) as temporary:
        path = Path(temporary) / "limit"
        write = FILE_BYTES / elapsed(lambda: _write(path)) / 1e9
        _forget(path)
        read = FILE_BYTES / elapsed(lambda: _read(path)) / 1e9
        cached = FILE_BYTES / min(elapsed(lambda: _read(path)) for _ in range(TRIES)) / 1e9
    return write, read, cached


def best_seconds(run: Callable[[], object], device: torch.device, tries: int = TRIES) -> float:
    """Seconds of the fastest try, after one that is not counted; the device's queue is waited for."""
    elapsed(run, device)
    return min(elapsed(run, device) for _ in range(tries))


def elapsed(run: Callable[[], object], device: torch.device | None = None) -> float:
    """Seconds of one run; the device's queue is empty at either end."""
    wait_for(device)
    start = time.perf_counter()
    run()
    wait_for(device)
    return time.perf_counter() - start


def wait_for(device: torch.device | None) -> None:
    """Return once the device has done all that it was given."""
    if device is not None and device.type == "cuda":
        torch.cuda.synchronize(device)


def _write(path: Path) -> None:
    chunk = os.urandom(CHUNK_BYTES)
    with path.open("wb") as file:
        for _ in range(FILE_BYTES // CHUNK_BYTES):
            file.write(chunk)
        file.flush()
        os.fsync(file.fileno())


def _forget(path: Path) -> None:
    """Take the file out of the page cache, where the system lets us (Linux)."""
    if hasattr(os, "posix_fadvise"):
        with path.open("rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def _read(path: Path) -> None:
    chunk = bytearray(CHUNK_BYTES)
    with path.open("rb", buffering=0) as file:
        while file.readinto(chunk):
            pass
