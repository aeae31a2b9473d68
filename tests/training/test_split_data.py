"""Which images of a split a phase trains on."""

import pytest

from fsgr_model.datasets.normal_form import read_captions, read_images
from fsgr_model.runtime.errors import UserError
from fsgr_model.training import split_data
from fsgr_model.training.split_data import Drawn, caption_tokens
from pipeline.train_xe import train_xe


def test_few_images_are_drawn_by_seed_and_fewer_are_among_more(tiny_data):
    images = read_images(tiny_data / "dataset", "train")
    drawn = {(count, seed): Drawn(count, seed).of(images) for count in (3, 6) for seed in (0, 1)}
    for (count, seed), found in drawn.items():
        assert len(found) == count and found == Drawn(count, seed).of(images)
        assert [image for image in images if image in found] == found, "in the order of the manifest"
    assert set(drawn[3, 0]) < set(drawn[6, 0])
    assert drawn[6, 0] != drawn[6, 1]
    assert Drawn(len(images), 5).of(images) == images


def test_captions_are_those_of_the_drawn_images(tiny_data):
    images = Drawn(4, 0).of(read_images(tiny_data / "dataset", "train"))
    captions = read_captions(tiny_data / "dataset")
    found = caption_tokens(tiny_data, "train", Drawn(4, 0))
    assert found == {
        image.image_id: [caption.tokens for caption in captions[image.image_id]] for image in images
    }


def test_more_than_there_are(tiny_data):
    images = read_images(tiny_data / "dataset", "train")
    with pytest.raises(
        UserError, match=rf"train_images is 1000, and there are {len(images)} training images"
    ):
        Drawn(1000, 0).of(images)


def test_training_on_few_images_is_training_on_a_dataset_without_the_others(
    run_in, tiny_data, model_params, xe_params, monkeypatch
):
    """The same curve, whether the others are left out by the parameter or do not exist."""
    few = run_in("by parameter")
    train_xe(few, 1e-3, model_params, xe_params.model_copy(update={"train_images": 5}))
    images = {split: read_images(tiny_data / "dataset", split) for split in ("train", "val")}
    there = {**images, "train": Drawn(5, few.seed).of(images["train"])}
    monkeypatch.setattr(split_data, "read_images", lambda folder, split: there[split])
    alone = run_in("not there")
    train_xe(alone, 1e-3, model_params, xe_params)
    assert few.curve.read_bytes() == alone.curve.read_bytes()
