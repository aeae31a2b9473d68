"""Command-line options that the benchmarks share, and the variants of the network that they ask for."""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from bench.limits import multiplies_bfloat16
from bench.networks import COCO, Sizes
from fsgr_model.kernels.inference import speed_up_inference
from fsgr_model.kernels.training import speed_up_training
from fsgr_model.network.captioner import Captioner
from fsgr_model.runtime.device import pick_device

RESULTS, PAGE = Path("bench/results/speed.json"), Path("docs/experiments/speed.md")
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


@dataclass(frozen=True)
class Variant:
    """One way of running the network."""

    dtype: torch.dtype
    compiled: bool

    def __str__(self) -> str:
        return str(self.dtype).removeprefix("torch.") + (", compiled" if self.compiled else "")

    def prepare(self, model: Captioner, trained: bool) -> Captioner:
        """The network as the stages have it, for training or not; or its large parts compiled.

        Calls of compiled parts may differ in shape.
        """
        if self.compiled:
            for part in (model.tail, model.encoder, model.decoder):
                part.compile()
        elif trained:
            speed_up_training(model)
        elif self.dtype == torch.float32:
            # oneDNN's layout cannot be cast.
            speed_up_inference(model)
        return model


@dataclass(frozen=True)
class Options:
    """Where and at what sizes to measure. `page` is None where no page is to be changed."""

    device: torch.device
    dtypes: tuple[torch.dtype, ...]
    compile: bool
    batches: tuple[int, ...]
    rounds: int
    sizes: Sizes = COCO
    out: Path = RESULTS
    page: Path | None = PAGE

    @property
    def variants(self) -> list[Variant]:
        """Plain, and compiled where that was asked for, in each precision."""
        ways = (False, True) if self.compile else (False,)
        return [Variant(dtype, compiled) for dtype in self.dtypes for compiled in ways]


def read_options(description: str | None, cpu_batches: Sequence[int], arguments: list[str] | None) -> Options:
    """Options from the command line; `cpu_batches` images per batch unless told."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", default=str(pick_device()), help="cpu or cuda (default: %(default)s)")
    parser.add_argument(
        "--dtype", nargs="+", choices=DTYPES, help="default: float32, and bfloat16 where the device has it"
    )
    parser.add_argument("--compile", action="store_true", help="measure torch.compile beside the plain way")
    parser.add_argument("--batch", type=int, nargs="+", default=list(cpu_batches), help="images per batch")
    parser.add_argument("--rounds", type=int, default=3, help="the median of so many (default: %(default)s)")
    parser.add_argument("--out", type=Path, default=RESULTS, help="JSON (default: %(default)s)")
    parser.add_argument("--page", type=Path, default=PAGE, help="Markdown page (default: %(default)s)")
    parser.add_argument("--no-page", dest="page", action="store_const", const=None, help="change no page")
    given = parser.parse_args(arguments)
    device = torch.device(given.device)
    dtypes = tuple(DTYPES[name] for name in given.dtype or DTYPES)
    if not given.dtype and not multiplies_bfloat16(device):
        print(
            f"{device} has no instructions for bfloat16: float32 only; --dtype bfloat16 measures it all the "
            "same"
        )
        dtypes = (torch.float32,)
    return Options(
        device,
        dtypes,
        given.compile,
        tuple(given.batch),
        given.rounds,
        out=given.out,
        page=given.page,
    )
