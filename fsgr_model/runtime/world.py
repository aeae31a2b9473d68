"""The processes of a run: this one alone, or several that train one network together.

Every process holds the whole network and computes a share of each batch. What a loss needs of the other
shares goes through the few methods here; where a process is alone they return their argument, so a loop or a
loss is written once. Only PyTorch's collectives are used, and no process group exists for a process alone.
"""

import os
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor
from torch.autograd.function import once_differentiable

T = TypeVar("T")
# A process that has not come to the others by then hangs; each waits for a slower one's step, no longer.
PATIENCE = timedelta(minutes=5)
# The exit code of a process that ended only because another one had.
LOST = 76


class OthersLost(SystemExit):
    """Another process has ended or hangs, so this one cannot go on. Its exit code tells it from the cause."""

    def __init__(self, rank: int, reason: str) -> None:
        super().__init__(LOST)
        self.message = f"process {rank} lost the others: {reason}"


class World:
    """A process alone: `rank` 0 of `size` 1. `together`: whether processes were started to work together."""

    rank, size, together = 0, 1, False

    def share(self, items: Sequence[T]) -> Sequence[T]:
        """This process's part of the items of a batch; the parts in the order of ranks are all of them."""
        return items

    def sum(self, numbers: Tensor) -> Tensor:
        """The sum over processes of equally shaped tensors; without gradient."""
        return numbers

    def part(self, mean: Tensor, count: Tensor | int) -> Tensor:
        """This process's part of the mean over all that counts, given the mean over its own `count`.

        The sum of all parts is the mean. With gradient.
        """
        return mean

    def gather(self, rows: Tensor) -> Tensor:
        """The rows of all processes, which may differ in number, in the order of ranks; with gradient.

        Where each process computes a part of a loss from gathered rows, each row gets the gradient of all.
        """
        return rows

    def everyones(self, value: T) -> list[T]:
        """The value of each process, which may be any object that pickles."""
        return [value]

    def of_first(self, tensors: Sequence[Tensor]) -> None:
        """Overwrite these tensors by those of rank 0."""

    def wait(self) -> None:
        """Wait until every process is here."""


ALONE = World()


class Group(World):
    """One of the processes of PyTorch's process group."""

    together = True

    def __init__(self) -> None:
        self.rank, self.size = dist.get_rank(), dist.get_world_size()

    def share(self, items: Sequence[T]) -> Sequence[T]:
        """Of parts that differ by one item at most."""
        first, end = (len(items) * rank // self.size for rank in (self.rank, self.rank + 1))
        return items[first:end]

    def sum(self, numbers: Tensor) -> Tensor:
        """As `World`; every process gets the same bits."""
        total = numbers.detach().clone()
        with self._noticing_loss():
            dist.all_reduce(total)
        return total

    def part(self, mean: Tensor, count: Tensor | int) -> Tensor:
        """As `World`; 0 where nothing counts, for which the mean is not a number."""
        counted = torch.as_tensor(count, device=mean.device)
        share = counted.to(mean.dtype) / self.sum(counted)
        return torch.where(counted > 0, mean * share, mean.new_zeros(()))

    def gather(self, rows: Tensor) -> Tensor:
        """As `World`."""
        with self._noticing_loss():
            return _Gather.apply(rows, self)

    def everyones(self, value: T) -> list[T]:
        """As `World`."""
        found: list[Any] = [None] * self.size
        with self._noticing_loss():
            dist.all_gather_object(found, value)
        return found

    def of_first(self, tensors: Sequence[Tensor]) -> None:
        """As `World`."""
        with self._noticing_loss():
            for tensor in tensors:
                dist.broadcast(tensor, src=0)

    def wait(self) -> None:
        """As `World`."""
        self.everyones(None)

    @contextmanager
    def _noticing_loss(self) -> Iterator[None]:
        try:
            yield
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:
            raise OthersLost(self.rank, str(error).splitlines()[0]) from error


class _Gather(torch.autograd.Function):
    """Rows of every process, and to each row the sum of the gradients that all processes have for it."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, group: Group) -> Tensor:
        counts = [torch.zeros(1, dtype=torch.int64) for _ in range(group.size)]
        dist.all_gather(counts, torch.tensor([len(rows)]))
        lengths = [int(count) for count in counts]
        longest = max(lengths)
        # Collectives want equal shapes.
        padded = rows.new_zeros((longest, *rows.shape[1:]))
        padded[: len(rows)] = rows
        found = [torch.empty_like(padded) for _ in lengths]
        dist.all_gather(found, padded)
        ctx.group, ctx.first, ctx.count = group, sum(lengths[: group.rank]), len(rows)
        return torch.cat([part[:length] for part, length in zip(found, lengths, strict=True)])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return ctx.group.sum(gradient)[ctx.first : ctx.first + ctx.count], None


@contextmanager
def joined() -> Iterator[World]:
    """Join the processes that torchrun started, from the environment that it set; leave them at the end.

    On machines with GPUs each process gets one, by its number on its machine. Tensors on a CPU go through
    gloo, those on a GPU through NCCL.
    """
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]) % torch.cuda.device_count())
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    dist.init_process_group(backend, timeout=PATIENCE)
    group = Group()
    places = group.everyones(f"{socket.gethostname()}, process {os.getpid()}")
    if group.rank == 0:
        print(f"{group.size} processes work together: {'; '.join(places)}", flush=True)
    try:
        yield group
    finally:
        dist.destroy_process_group()
