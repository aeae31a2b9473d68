"""The processes that would share the work: how many, how they split a batch, and what is left for each."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch

from fsgr_model.checkup.findings import Findings
from fsgr_model.config.params import Params
from fsgr_model.runtime.gpus import refuse_more_than_gpus

FLOAT16 = 2


@dataclass(frozen=True)
class Team:
    """So many processes; without GPUs all of them share this machine's cores and memory."""

    size: int = 1
    gpus: int = 0

    def largest_share(self, batch: int) -> int:
        """Images of a batch that the process with the most gets."""
        return -(-batch // self.size)

    def shared_pictures(self, params: Params, *, images: int, pixels: int) -> int:
        """Bytes of the file, float16 [images, 3, pixels], that several processes train CLIP from."""
        return images * 3 * pixels * FLOAT16 if params.clip.training and self.size > 1 else 0

    @contextmanager
    def threads_of_one(self) -> Iterator[None]:
        """PyTorch has as many threads as each process would have."""
        before = torch.get_num_threads()
        if not self.gpus:
            torch.set_num_threads(max(1, (os.cpu_count() or 1) // self.size))
        try:
            yield
        finally:
            torch.set_num_threads(before)


BY_ITSELF = Team()


def check_team(params: Params, asked: int | None, findings: Findings) -> Team:
    """The processes that are asked for, or that `runtime.processes` would start here.

    More than the GPUs of this machine are a problem, unless they are asked for as those of several machines.
    """
    gpus, wanted = torch.cuda.device_count(), params.runtime.processes
    size = asked or (max(1, gpus) if wanted == "auto" else wanted)
    team = Team(size, gpus)
    if asked is None and params.runtime.launcher:
        findings.fact("processes", "as runtime.launcher starts them; --processes N checks for N")
    elif asked is None:
        with findings.collected():
            refuse_more_than_gpus(size, gpus=gpus)
    if size == 1:
        return team
    batches = {"xe.batch_size": params.xe.batch_size, "scst.batch_size": params.scst.batch_size}
    if params.clip.training:
        batches["clip.training.batch_size"] = params.clip.training.batch_size
    shares = ", ".join(f"{name} {batch} into {_shares(batch, size)}" for name, batch in batches.items())
    findings.fact("processes", f"{size} share each batch: {shares}; every one holds the whole network")
    for name, batch in batches.items():
        if batch < size:
            findings.problem(
                f"{name} is {batch}, so {size - batch} of {size} processes would have no image; raise it, or "
                "lower runtime.processes"
            )
    return team


def _shares(batch: int, size: int) -> str:
    least, more = divmod(batch, size)
    return f"{least} or {least + 1}" if more else str(least)
