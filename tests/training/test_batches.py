"""Batches: an image once with all of its captions, an order that the seed fixes, the shuffled baseline."""

import numpy as np
import pytest
import torch

from fsgr_model.runtime.row_store import RowFormat, RowStore, RowWriter
from fsgr_model.text.vocabulary import PAD
from fsgr_model.training.batches import CaptionedImages, pad_captions

IDS = [3, 8, 11, 20, 21, 22, 40]


@pytest.fixture
def store(tmp_path) -> RowStore:
    """Every value of an image's row is its id."""
    path = tmp_path / "train.h5"
    with RowWriter(path, RowFormat("tokens", (2, 4), "float16"), IDS, {"cut": 1}) as writer:
        writer.write(IDS, np.stack([np.full((2, 4), image_id) for image_id in IDS]))
    return RowStore(path, {"cut": 1})


def captions() -> dict[int, list[list[int]]]:
    return {image_id: [[2, image_id, 3], [2, image_id, 5, 3]][: 1 + image_id % 2] for image_id in IDS}


def test_a_batch_holds_the_features_and_captions_of_its_images(store):
    batch = CaptionedImages(store, captions()).batch([11, 3, 40])
    assert batch.tokens_BTW.shape == (3, 2, 4) and batch.tokens_BTW.dtype == torch.float16
    assert batch.tokens_BTW[:, 0, 0].tolist() == [11, 3, 40]
    assert batch.caption_BSL[0].tolist() == [[2, 11, 3, PAD], [2, 11, 5, 3]]
    assert batch.caption_BSL[2, 1].tolist() == [PAD] * 4


def test_an_epoch_shows_every_image_once_in_an_order_that_seed_and_epoch_fix(store):
    images = CaptionedImages(store, captions())
    groups = images.epoch_groups(3, seed=1, epoch=2)
    assert [len(group) for group in groups] == [3, 3, 1]
    assert sorted(image_id for group in groups for image_id in group) == IDS
    assert groups == images.epoch_groups(3, seed=1, epoch=2)
    assert groups != images.epoch_groups(3, seed=1, epoch=3) != images.epoch_groups(3, seed=2, epoch=3)


def test_reading_ahead_changes_nothing(store):
    images = CaptionedImages(store, captions())
    groups = images.groups(2)
    ahead = list(images.batches(groups))
    assert [batch.image_ids for batch in ahead] == groups
    for batch, group in zip(ahead, groups, strict=True):
        assert torch.equal(batch.tokens_BTW, images.batch(group).tokens_BTW)


def test_no_groups_are_no_batches(store):
    assert list(CaptionedImages(store, captions()).batches([])) == []


def test_the_shuffled_baseline_gives_every_image_the_features_of_another(store):
    images = CaptionedImages(store, captions(), shuffle_seed=5)
    batch = images.batch(IDS)
    features = batch.tokens_BTW[:, 0, 0].int().tolist()
    assert sorted(features) == IDS
    assert all(feature != image_id for feature, image_id in zip(features, IDS, strict=True))
    assert batch.caption_BSL[0, 0, 1] == IDS[0]


def test_label_maps_go_with_the_features(store, tmp_path):
    path = tmp_path / "labels.h5"
    with RowWriter(path, RowFormat("labels", (3,), "uint16"), IDS, {}) as writer:
        writer.write(IDS, np.stack([np.full(3, 60_000 + image_id) for image_id in IDS]))
    images = CaptionedImages(store, captions(), shuffle_seed=5, labels=RowStore(path, {}))
    batch = images.batch(IDS)
    assert batch.label_BG is not None and batch.label_BG.dtype == torch.int64
    assert (batch.label_BG - 60_000)[:, 0].tolist() == batch.tokens_BTW[:, 0, 0].int().tolist()
    assert CaptionedImages(store, captions()).batch(IDS).label_BG is None


def test_padding_fills_short_captions_only():
    padded = pad_captions([[[2, 5, 3]], [[2, 3], [2, 7, 8, 9, 3]]])
    assert padded.shape == (2, 2, 5)
    assert padded[0].tolist() == [[2, 5, 3, PAD, PAD], [PAD] * 5]
