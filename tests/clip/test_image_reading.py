"""Shared memory that is too small for the workers' batches is found before any work."""

from collections import namedtuple

import pytest
import torch

from fsgr_model.clip import image_reading
from fsgr_model.clip.image_reading import read_batches
from fsgr_model.clip.loading import load_clip
from fsgr_model.datasets.normal_form import read_images
from fsgr_model.runtime.errors import UserError


def test_too_little_shared_memory_is_refused_with_both_numbers(dataset, clip_folder, monkeypatch):
    """20 pictures of 32 x 32 in float32: two batches of five for each of two workers wait at once."""
    clip = load_clip(clip_folder, torch.device("cpu"))
    records = read_images(dataset)
    needed = 20 * 3 * 32 * 32 * 4
    usage = namedtuple("usage", "free")
    monkeypatch.setattr(image_reading.shutil, "disk_usage", lambda folder: usage(needed - 1))
    with pytest.raises(UserError, match=r"need 0\.2 MB of shared memory, /dev/shm has 0\.2 MB free; .*: 0$"):
        next(read_batches(records, clip.preprocess, 5, 2))
    next(read_batches(records, clip.preprocess, 5, 0))
    next(read_batches(records, clip.preprocess, 4, 2))
    monkeypatch.setattr(image_reading.shutil, "disk_usage", lambda folder: usage(needed))
    next(read_batches(records, clip.preprocess, 5, 2))
