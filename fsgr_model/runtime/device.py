"""Which device a run uses."""

import contextlib
from collections.abc import Iterator

import torch

from fsgr_model.runtime.errors import UserError
from fsgr_model.runtime.precision import Precision


def pick_device() -> torch.device:
    """CUDA if there is a GPU, else Apple's MPS, else the CPU."""
    if torch.cuda.is_available():
        return torch.device("cuda")
    if torch.backends.mps.is_available():
        return torch.device("mps")
    return torch.device("cpu")


def device_named(name: str) -> torch.device:
    """The device that PyTorch calls by this name: cpu, cuda, cuda:1, mps.

    Raises:
        UserError: PyTorch knows no such device, or cannot use it on this machine.
    """
    try:
        device = torch.device(name)
        torch.empty(1, device=device).tolist()  # `meta` has no values
    except (RuntimeError, AssertionError) as error:  # the latter where PyTorch was built without it
        reason = str(error).partition("\n")[0]
        raise UserError(
            f"device {name!r} cannot be used on this machine ({reason}); give cpu, cuda, cuda:1 or mps"
        ) from None
    return device


def autocast(device: torch.device, precision: Precision = "auto") -> contextlib.AbstractContextManager[None]:
    """A context in which matrix products are computed in another number format than the weights have.

    `auto` is bf16 on a CUDA device, and float32 everywhere else.
    """
    if precision == "auto":
        precision = "bf16" if device.type == "cuda" else "float32"
    if precision == "float32":
        return contextlib.nullcontext()
    return torch.autocast(device.type, dtype=torch.float16 if precision == "fp16" else torch.bfloat16)


def at_least_float32(x: torch.Tensor) -> torch.Tensor:
    """float32 in place of the half as wide formats of autocast; float64, where a network has it, stays."""
    return x if x.dtype == torch.float64 else x.float()


@contextlib.contextmanager
def tf32_products(device: torch.device) -> Iterator[None]:
    """A context in which float32 products on a CUDA device round their factors to 10 bits (TF32).

    That is the precision of the float16 in which features are kept, at three times the speed
    (docs/experiments/gpu.md). Elsewhere nothing changes.
    """
    before = torch.get_float32_matmul_precision()
    if device.type == "cuda":
        torch.set_float32_matmul_precision("high")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)
