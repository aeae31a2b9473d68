"""The last step of preprocessing computes what torchvision's transforms compute."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from fsgr_model.clip.model_building import build_preprocess, default_preprocessing
from fsgr_model.clip.open_clip_api import open_clip
from fsgr_model.clip.pixels import NormalisedPixels

CONFIG = {"vision_cfg": {"image_size": 24}}


def noise(seed: int, width: int = 40, height: int = 31) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8))


@pytest.mark.parametrize("mode", ["squash", "shortest", "longest"])
def test_every_bit_is_open_clips(mode: str) -> None:
    preprocessing = default_preprocessing(CONFIG, {"resize_mode": mode, "mean": (0.48, 0.1, 0.5)})
    plain = open_clip.transform.image_transform_v2(
        open_clip.transform.PreprocessCfg(**preprocessing), is_train=False
    )
    ours = build_preprocess(preprocessing)
    assert any(isinstance(step, NormalisedPixels) for step in ours.transforms)
    for seed in range(5):
        expected, found = plain(noise(seed)), ours(noise(seed))
        assert found.dtype == torch.float32 and found.is_contiguous()
        assert torch.equal(found, expected)


def test_the_picture_is_not_changed(tmp_path: Path) -> None:
    picture = noise(0)
    before = picture.tobytes()
    NormalisedPixels((0.5, 0.5, 0.5), (0.2, 0.2, 0.2))(picture)
    assert picture.tobytes() == before
