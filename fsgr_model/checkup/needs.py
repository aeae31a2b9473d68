"""Compares the disk space and memory that a run needs, by its shapes, with what this machine has.

Shapes: T tokens of the cache, G patches, W vision width.
"""

import shutil
from pathlib import Path
from typing import get_args

import torch

from fsgr_model.checkup.blueprint import Blueprint
from fsgr_model.checkup.dataset import DatasetSize
from fsgr_model.checkup.findings import Findings
from fsgr_model.checkup.team import BY_ITSELF, Team
from fsgr_model.clip.token_cache import CacheDtype, token_format
from fsgr_model.config.params import Params
from fsgr_model.runtime.device import pick_device
from fsgr_model.training.step_memory import FLOAT32, GB, StepSize, device_memory, step_bytes

UINT16 = 2


def cache_bytes(size: DatasetSize, plan: Blueprint) -> dict[CacheDtype, int]:
    """Bytes of the tokens of all images, by `clip.cache_dtype`: on disk, and where they are in memory."""
    return {
        kind: size.all_images * token_format(plan.token_shape, kind).bytes for kind in get_args(CacheDtype)
    }


def disk_bytes(size: DatasetSize, plan: Blueprint, cache_dtype: CacheDtype) -> dict[str, int]:
    """Bytes that the stages write: cached tokens, label maps [N, G] uint16, weights of CLIP and of two
    captioners float32, pictures out of tar files. N is the number of all images.
    """
    trained = sum(weight.numel() for weight in plan.captioner.trained_weights().values())
    return {
        "feature cache": cache_bytes(size, plan)[cache_dtype],
        "label maps": size.all_images * plan.patches * UINT16,
        "weights": (plan.clip_parameters + 2 * trained) * FLOAT32,
        "unpacked pictures": size.unpacked,
    }


def check_disk(
    size: DatasetSize,
    plan: Blueprint,
    data: Path,
    cache_dtype: CacheDtype,
    *,
    findings: Findings,
    shared_pictures: int = 0,
) -> None:
    """Compare the space that a run from scratch needs with the free space of the disk of `data`.

    `shared_pictures`: bytes of the file that several processes train CLIP from, which then goes.
    """
    all_parts = disk_bytes(size, plan, cache_dtype) | {"pictures of CLIP's training": shared_pictures}
    parts = {name: count for name, count in all_parts.items() if count}
    needed, free = sum(parts.values()), shutil.disk_usage(data).free
    T, W = plan.token_shape
    shown = ", ".join(f"{name} {count / GB:.2f}" for name, count in parts.items())
    findings.fact(
        "disk",
        f"{needed / GB:.2f} GB needed, {free / GB:.2f} GB free ({shown})",
    )
    choices = ", ".join(f"{kind} {count / GB:.2f} GB" for kind, count in cache_bytes(size, plan).items())
    findings.fact(
        "cache",
        f"{choices} on disk, and in memory where training keeps it there; clip.cache_dtype is {cache_dtype} "
        f"({size.all_images:,} images x {T} tokens x {W})",
    )
    if needed > free:
        findings.problem(
            f"disk: a run writes {needed / GB:.2f} GB below {data}, {free / GB:.2f} GB are free there; free "
            "some space, or make data a link to a larger disk"
        )


def memory_bytes(size: DatasetSize, plan: Blueprint, params: Params, team: Team = BY_ITSELF) -> int:
    """Approximate bytes of the largest training step of a process; see `step_bytes`."""
    spoken = min(size.longest + 1, params.xe.max_length)
    xe, scst = (team.largest_share(phase.batch_size) for phase in (params.xe, params.scst))
    steps = (
        StepSize(xe, size.captions_per_image * spoken, plan.token_shape),
        StepSize(scst, params.scst.samples * params.scst.max_length, plan.token_shape),
    )
    return max(step_bytes(plan.captioner, step) for step in steps)


def check_memory(
    size: DatasetSize,
    plan: Blueprint,
    params: Params,
    timing: bool,
    *,
    findings: Findings,
    team: Team = BY_ITSELF,
) -> None:
    """Compare the memory that a run needs with that of its device; on a CPU all processes share it.

    Too little memory on a GPU is not a problem yet if steps will be timed there, which is more exact.
    """
    device = pick_device()
    each, there = memory_bytes(size, plan, params, team), device_memory(device)
    sharing = 1 if device.type == "cuda" else team.size
    needed = sharing * each
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else f"memory of this {device}"
    of_each = f" of each process, {needed / GB:.1f} GB of the {sharing} here" if sharing > 1 else ""
    findings.fact(
        "memory",
        f"about {each / GB:.1f} GB for a training step{of_each}, {there / GB:.1f} GB on {name} (from shapes: "
        "weights, Adam's state, and what layers keep for the backward pass, in float32)",
    )
    if needed > there and not (timing and device.type == "cuda"):
        findings.problem(
            f"memory: a training step needs about {needed / GB:.1f} GB, {name} has {there / GB:.1f} GB; "
            "lower xe.batch_size and scst.batch_size"
        )
