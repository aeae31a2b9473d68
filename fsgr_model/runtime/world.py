"""The processes of a run: this one alone, or several that train one network together.

Every process holds the whole network and computes a share of each batch. What a loss needs of the other
shares goes through the few methods here; where a process is alone they return their argument, so a loop or a
loss is written once. Only PyTorch's collectives are used, and no process group exists for a process alone.
"""

import os
import socket
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from itertools import chain, islice, zip_longest
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor
from torch.autograd.function import once_differentiable

T = TypeVar("T")
MISSING: Any = object()
# A process that has not come to the others by then hangs; each waits for a slower one's step, no longer.
PATIENCE = timedelta(seconds=100)
# Who lost the others waits so long for those that have noticed it too: the silent ones are the cause.
ROLL_CALL_SECONDS = 3.0
SECONDS_BETWEEN_LOOKS = 0.1
ENDED = "ended"
# The exit code of a process that ended only because another one had.
LOST = 76


class OthersLost(SystemExit):
    """Another process has ended or hangs, so this one cannot go on. Its exit code tells it from the cause.

    `reason` names the silent processes; `place` is the step, if it was in one; `is_first`: whether this is
    the first process that is left, which saves what all have.
    """

    def __init__(self, rank: int, reason: str, is_first: bool) -> None:
        super().__init__(LOST)
        self.rank, self.reason, self.is_first, self.place = rank, reason, is_first, ""

    @property
    def message(self) -> str:
        where = f" in {self.place}" if self.place else ""
        return f"process {self.rank} lost the others{where}: {self.reason}"


class World:
    """A process alone: `rank` 0 of `size` 1. `together`: whether processes were started to work together;
    `on_machine`: how many of them run on this machine.
    """

    rank, size, together, on_machine = 0, 1, False, 1

    def share(self, items: Sequence[T]) -> Sequence[T]:
        """This process's part of the items of a batch; the parts in the order of ranks are all of them."""
        return items

    def deal(self, items: Sequence[T]) -> Sequence[T]:
        """This process's part of items that are dealt out in turn, one to each, as whole batches are."""
        return items

    def rounds(self, own: Iterable[T], of_all: int) -> Iterator[T]:
        """The items that `deal` gave, of `of_all`; no process is more than one item ahead of another."""
        yield from own

    def collect(self, own: Sequence[T]) -> list[T]:
        """What all processes made of the items that were dealt out, in the order of these."""
        return list(own)

    def sum(self, numbers: Tensor, kind: str = "counts") -> Tensor:
        """The sum over processes of equally shaped tensors; without gradient. `kind` is for `bytes_given`."""
        return numbers

    def part(self, mean: Tensor, count: Tensor | int, of: str = "loss") -> Tensor:
        """This process's part of the mean over all that counts, given the mean over its own `count`.

        The sum of all parts is the mean. With gradient. `of` names what is counted, where it differs.
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

    def give(self, tensors: Sequence[Tensor], rank: int = 0) -> None:
        """Overwrite these tensors, in every process, by those of one rank."""

    def wait(self) -> None:
        """Wait until every process is here."""

    def seconds_waited(self) -> list[float]:
        """Of each process, the time in exchanges with the others since the last call; on a CPU."""
        return [0.0]

    def bytes_given(self) -> dict[str, int]:
        """The bytes that this process handed to PyTorch's collectives since the last call, by their kind."""
        return {}

    def wait_for_first(self, door: str) -> None:
        """Wait, however long, until rank 0 has come to this `door`, which is used once in a run."""


ALONE = World()


class Group(World):
    """One of the processes of PyTorch's process group; store and timeout are those that it was made with."""

    together = True

    def __init__(self, store: dist.Store, timeout: timedelta) -> None:
        self.rank, self.size = dist.get_rank(), dist.get_world_size()
        self.store, self.timeout = store, timeout
        # torchrun tells it.
        self.on_machine = int(os.environ.get("LOCAL_WORLD_SIZE", self.size))
        self._seconds, self._bytes = 0.0, Counter[str]()
        self.places = self.everyones(f"process {self.rank} ({socket.gethostname()}, pid {os.getpid()})")

    def share(self, items: Sequence[T]) -> Sequence[T]:
        """Of parts that differ by one item at most."""
        first, end = (len(items) * rank // self.size for rank in (self.rank, self.rank + 1))
        return items[first:end]

    def deal(self, items: Sequence[T]) -> Sequence[T]:
        """As `World`."""
        return items[self.rank :: self.size]

    def rounds(self, own: Iterable[T], of_all: int) -> Iterator[T]:
        """As `World`."""
        coming = iter(own)
        for _ in range(-(-of_all // self.size)):
            yield from islice(coming, 1)
            self.wait()

    def collect(self, own: Sequence[T]) -> list[T]:
        """As `World`."""
        in_turn = zip_longest(*self.everyones(own), fillvalue=MISSING)
        return [item for item in chain.from_iterable(in_turn) if item is not MISSING]

    def sum(self, numbers: Tensor, kind: str = "counts") -> Tensor:
        """As `World`; every process gets the same bits."""
        # Collectives add memory to memory, whatever the strides: a transposed gradient here and a plain one
        # in another process would be mixed, without an error (findings/torch_all_reduce_strides.sh).
        total = numbers.detach().clone(memory_format=torch.contiguous_format)
        self.count_bytes(**{kind: total})
        with self._noticing_loss():
            dist.all_reduce(total)
        return total

    def part(self, mean: Tensor, count: Tensor | int, of: str = "loss") -> Tensor:
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

    def give(self, tensors: Sequence[Tensor], rank: int = 0) -> None:
        """As `World`."""
        with self._noticing_loss():
            for tensor in tensors:
                # Collectives want a plain layout.
                given = tensor.detach().contiguous()
                self.count_bytes(given=given)
                dist.broadcast(given, src=rank)
                tensor.detach().copy_(given)

    def wait(self) -> None:
        """As `World`."""
        self.everyones(None)

    def seconds_waited(self) -> list[float]:
        """As `World`."""
        seconds, self._seconds = self._seconds, 0.0
        return self.everyones(seconds)

    def count_bytes(self, **tensor_of_kind: Tensor) -> None:
        """Note what is handed to a collective."""
        for kind, tensor in tensor_of_kind.items():
            self._bytes[kind] += tensor.nbytes

    def bytes_given(self) -> dict[str, int]:
        """As `World`."""
        found, self._bytes = dict(self._bytes), Counter()
        return found

    def wait_for_first(self, door: str) -> None:
        """As `World`. No collective waits so long."""
        with self._noticing_loss():
            if self.rank == 0:
                self.store.set(door, "open")
            while not self.store.check([door]):
                time.sleep(SECONDS_BETWEEN_LOOKS)

    @contextmanager
    def _noticing_loss(self) -> Iterator[None]:
        start = time.monotonic()
        try:
            yield
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:
            waited = time.monotonic() - start
            silent = self._silent()
            names = "; ".join(self.places[rank] for rank in sorted(silent))
            hung = waited > 0.9 * self.timeout.total_seconds()
            how = f"did not answer for {waited:.0f} s" if hung else ENDED
            reason = f"{names} {how}" if silent else str(error).splitlines()[0]
            is_first = self.rank == min(set(range(self.size)) - silent)
            raise OthersLost(self.rank, reason, is_first) from error
        finally:
            self._seconds += time.monotonic() - start

    def _silent(self) -> set[int]:
        """The processes that have ended or hang: all but those that notice a loss, as this one does now.

        None where the store is lost too.
        """
        silent = set(range(self.size))
        try:
            self.store.set(f"lost/{self.rank}", "here")
            end = time.monotonic() + ROLL_CALL_SECONDS
            while silent and time.monotonic() < end:
                silent -= {rank for rank in silent if self.store.check([f"lost/{rank}"])}
                time.sleep(SECONDS_BETWEEN_LOOKS)
        except RuntimeError:
            return set()
        return silent


class _Gather(torch.autograd.Function):
    """Rows of every process, and to each row the sum of the gradients that all processes have for it."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, group: Group) -> Tensor:
        counts = [torch.zeros(1, dtype=torch.int64) for _ in range(group.size)]
        own = torch.tensor([len(rows)])
        dist.all_gather(counts, own)
        lengths = [int(count) for count in counts]
        longest = max(lengths)
        # Collectives want equal shapes.
        padded = rows.new_zeros((longest, *rows.shape[1:]))
        padded[: len(rows)] = rows
        group.count_bytes(counts=own, gathered=padded)
        found = [torch.empty_like(padded) for _ in lengths]
        dist.all_gather(found, padded)
        ctx.group, ctx.first, ctx.count = group, sum(lengths[: group.rank]), len(rows)
        return torch.cat([part[:length] for part, length in zip(found, lengths, strict=True)])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return ctx.group.sum(gradient, "gathered")[ctx.first : ctx.first + ctx.count], None


@contextmanager
def joined() -> Iterator[World]:
    """Join the processes that torchrun started, from the environment that it set; leave them at the end.

    On machines with GPUs each process gets one, by its number on its machine. Tensors on a CPU go through
    gloo, those on a GPU through NCCL.
    """
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]) % torch.cuda.device_count())
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    store, rank, size = next(iter(dist.rendezvous("env://", timeout=PATIENCE)))
    dist.init_process_group(backend, store=store, rank=rank, world_size=size, timeout=PATIENCE)
    group = Group(store, PATIENCE)
    if rank == 0:
        print(f"{size} processes work together: {'; '.join(group.places)}", flush=True)
    try:
        yield group
    finally:
        dist.destroy_process_group()
