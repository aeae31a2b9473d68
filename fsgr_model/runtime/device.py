"""Which device a run uses."""

import contextlib

import torch

from fsgr_model.runtime.precision import Precision


def pick_device() -> torch.device:
    """CUDA if there is a GPU, else Apple's MPS, else the CPU."""
    if torch.cuda.is_available():
        return torch.device("cuda")
    if torch.backends.mps.is_available():
        return torch.device("mps")
    return torch.device("cpu")


def autocast(device: torch.device, precision: Precision = "auto") -> contextlib.AbstractContextManager[None]:
    """A context in which matrix products are computed in another number format than the weights have.

    `auto` is bf16 on a CUDA device, and float32 everywhere else.
    """
    if precision == "auto":
        precision = "bf16" if device.type == "cuda" else "float32"
    if precision == "float32":
        return contextlib.nullcontext()
    return torch.autocast(device.type, dtype=torch.float16 if precision == "fp16" else torch.bfloat16)
