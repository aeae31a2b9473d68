"""The whole network can learn 64 images by heart: CIDEr above 3 of what it says of them."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from fsgr_model.clip.token_cache import trunk_identity
from fsgr_model.config.dataset_params import DemoWorldParams
from fsgr_model.datasets.demo.world import draw_demo_world
from fsgr_model.datasets.normal_form import Dataset, write_dataset
from fsgr_model.runtime.row_store import RowFormat, RowWriter
from fsgr_model.training.run import Run
from pipeline.train_xe import train_xe
from tests.training.test_training import history_of
from tests.worlds.captioner import CUT, MUON, WIDTH, write_clip, write_text

IMAGES = 64
SAME = 10_000  # added to an image id: the same image in the validation split


@pytest.fixture
def twin_splits(tmp_path) -> Path:
    """64 images of the demo world, each with features of its own, and the same 64 as validation split."""
    data = tmp_path / "data"
    size = DemoWorldParams(train_images=IMAGES, val_images=1, test_images=1)
    drawn = draw_demo_world(Path("data/demo/world.yaml"), size, 3, tmp_path / "drawn", place="drawn")
    images = [image for image in drawn.images if image.split == "train"]
    captions = [caption for caption in drawn.captions if caption.image_id <= IMAGES]
    twins = [replace(image, image_id=image.image_id + SAME, split="val") for image in images]
    twin_captions = [
        replace(c, image_id=c.image_id + SAME, annotation_id=c.annotation_id + 10**6) for c in captions
    ]
    (data / "dataset").mkdir(parents=True)
    write_dataset(
        data / "dataset", Dataset(images + twins, captions + twin_captions, drawn.instances, drawn.report)
    )
    torch.manual_seed(0)
    identity = write_clip(data)
    write_text(data, captions, images, identity)
    tokens_NTW = np.random.default_rng(0).normal(size=(IMAGES, 10, WIDTH)).astype(np.float16)
    (data / "features").mkdir()
    for split, ids in (("train", images), ("val", twins)):
        path, row_format = data / "features" / f"{split}.h5", RowFormat("tokens", (10, WIDTH), "float16")
        image_ids = [image.image_id for image in ids]
        with RowWriter(path, row_format, image_ids, trunk_identity(identity, CUT)) as rows:
            rows.write(image_ids, tokens_NTW)
    return data


@pytest.mark.slow
def test_64_images_are_learned_by_heart(twin_splits, tmp_path, model_params, xe_params, monkeypatch):
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    run = Run("train_xe", twin_splits, tmp_path / "model", tmp_path / "curve.tsv", 7, 10.0, MUON)
    model = model_params.model_copy(update={"d_model": 64, "d_ff": 128, "dropout": 0.0})
    changes = {"epochs": 60, "batch_size": 8, "patience": 60, "max_length": 20}
    train_xe(run, 2e-3, model, xe_params.model_copy(update=changes))
    scores = [float(row["val_CIDEr"]) for row in history_of(run)]
    assert scores[0] < 0.2
    assert max(scores) > 3.0
