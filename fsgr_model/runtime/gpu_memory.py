"""Finds how many images fit when a step needs more memory than the GPU has."""

import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch

from fsgr_model.runtime.errors import UserError


@contextmanager
def suggest_batch_size(attempt: Callable[[int], object], images: int, parameter: str) -> Iterator[None]:
    """A context for a block that works on `images` images.

    If the memory of the GPU is too small, `attempt(n)`, the same work on n images without a lasting effect,
    is tried with half as many images, and half of these, until it fits.

    Raises:
        UserError: it did not fit; the message has the number that does, to be given to `parameter`.
    """
    try:
        yield
    except torch.OutOfMemoryError as error:
        wanted = str(error).split(". GPU")[0].split("\n")[0]
        # The frames of the exception keep the tensors of the failed step alive.
        traceback.clear_frames(error.__traceback__)
    else:
        return
    fitting = largest_fitting(attempt, images)
    remedy = (
        f"{fitting} fit, set {parameter}: {fitting}"
        if fitting
        else "not even one fits: choose a smaller model, or free the GPU of other processes"
    )
    raise UserError(
        f"{parameter}: a step of {images} images needs more memory than there is ({wanted}); {remedy}"
    )


@contextmanager
def refuse_batch_size(images: int, parameter: str) -> Iterator[None]:
    """A context for a block that works on `images` images, this process's share of a batch.

    What would fit cannot be tried, since the other processes would have to try it too.

    Raises:
        UserError: the memory of the GPU is too small; the message says what to change.
    """
    try:
        yield
    except torch.OutOfMemoryError as error:
        wanted = str(error).split(". GPU")[0].split("\n")[0]
        raise UserError(
            f"{parameter}: {images} images for one of several processes need more memory than there is "
            f"({wanted}); lower it, or share it among more GPUs"
        ) from None


def may_run_out(device: torch.device) -> bool:
    """Whether PyTorch raises an error that can be caught when the memory of this device is too small."""
    return device.type == "cuda"


def largest_fitting(attempt: Callable[[int], object], images: int) -> int:
    """The first of images / 2, images / 4, ... that `attempt` can run with; 0 if not even 1 image fits."""
    while images := images // 2:
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        try:
            attempt(images)
        except torch.OutOfMemoryError:
            continue
        return images
    return 0
