"""A CLIP of a few thousand weights and a data set of a few pictures."""

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from fsgr_model.clip.loading import save_clip
from fsgr_model.clip.model_building import build_model, default_preprocessing
from fsgr_model.datasets.normal_form import CaptionRecord, Dataset, ImageRecord, Split, write_dataset

SIZES: dict[Split, int] = {"train": 12, "val": 4, "test": 4}


def tiny_config(**vision: Any) -> dict[str, Any]:
    """32 px, 16 patches, width 32, 3 blocks of 2 heads."""
    return {
        "embed_dim": 16,
        "vision_cfg": {
            "image_size": 32,
            "patch_size": 8,
            "width": 32,
            "head_width": 16,
            "layers": 3,
            **vision,
        },
        "text_cfg": {"context_length": 12, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1},
    }


@pytest.fixture(scope="session")
def clip_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`data/clip/` of a random tiny CLIP."""
    folder = tmp_path_factory.mktemp("clip")
    config = tiny_config(pool_type="avg")
    torch.manual_seed(3)
    model = build_model(config, "tiny")
    save_clip(
        folder,
        model,
        "tiny",
        config,
        preprocessing=default_preprocessing(config, {"resize_mode": "squash"}),
        origin={},
    )
    return folder


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    return noise_dataset(tmp_path / "dataset")


def noise_dataset(folder: Path) -> Path:
    """`data/dataset/` of 20 pictures of noise in a colour of their own, two captions each."""
    (folder / "images").mkdir(parents=True)
    draw = np.random.default_rng(0)
    images, captions = [], []
    splits = [split for split, count in SIZES.items() for _ in range(count)]
    for image_id, split in enumerate(splits, start=11):
        path = folder / "images" / f"{image_id}.png"
        pixels = draw.integers(0, 200, 3) + draw.integers(0, 56, (24, 40, 3))
        Image.fromarray(pixels.astype(np.uint8)).save(path)
        data = path.read_bytes()
        key = hashlib.sha256(data).hexdigest()
        images.append(ImageRecord(image_id, split, str(path), 40, 24, len(data), key))
        for number in range(2):
            text = f"picture {image_id} of noise, caption {number}"
            captions.append(CaptionRecord(image_id, 10 * image_id + number, text, text.split()))
    categories = [{"id": 2, "name": "cat"}, {"id": 1, "name": "dog"}, {"id": 5, "name": "grass"}]
    write_dataset(folder, Dataset(images, captions, {"categories": categories, "annotations": []}, {}))
    return folder
