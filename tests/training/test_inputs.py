"""What training reads: which images of a split."""

from dataclasses import replace

import pytest

from fsgr_model.datasets.normal_form import read_captions, read_images
from fsgr_model.runtime.errors import UserError
from fsgr_model.training import inputs as inputs_module
from fsgr_model.training.inputs import choose_images
from pipeline.train_xe import train_xe
from tests.worlds.captioner import split_of


def test_few_images_are_drawn_by_seed_and_fewer_are_among_more(tiny_data):
    images = split_of(tiny_data, "train").tokens
    drawn = {(count, seed): choose_images(images, count, seed=seed) for count in (3, 6) for seed in (0, 1)}
    for (count, seed), found in drawn.items():
        assert len(found) == count and found == choose_images(images, count, seed=seed)
        assert [image for image in images if image in found] == list(found), "in the order of the manifest"
    assert drawn[3, 0].keys() < drawn[6, 0].keys()
    assert drawn[6, 0] != drawn[6, 1]
    assert choose_images(images, len(images), seed=5) == images


def test_captions_are_those_of_the_drawn_images(tiny_data):
    captions = read_captions(tiny_data / "dataset")
    found = split_of(tiny_data, "train").choose(4, 0).tokens
    assert len(found) == 4
    assert found == {image_id: [caption.tokens for caption in captions[image_id]] for image_id in found}
    every = split_of(tiny_data, "train").choose(None, 0).tokens
    assert list(every) == [image.image_id for image in read_images(tiny_data / "dataset", "train")]


def test_more_than_there_are(tiny_data):
    train = split_of(tiny_data, "train")
    count = len(train.tokens)
    with pytest.raises(UserError, match=rf"train_images is 1000, but there are only {count} training images"):
        train.choose(1000, 0)


def test_training_on_few_images_is_training_on_a_dataset_without_the_others(
    run_in, tiny_data, model_params, xe_params, monkeypatch
):
    """The same curve, whether the others are left out by the parameter or do not exist."""
    few = replace(run_in("by parameter"), train_images=5)
    train_xe(few, 1e-3, model_params, xe_params)
    plain = inputs_module.tokens_of

    def only_few(tokens, split):
        found = plain(tokens, split)
        return choose_images(found, 5, seed=few.seed) if split == "train" else found

    monkeypatch.setattr(inputs_module, "tokens_of", only_few)
    alone = run_in("not there")
    train_xe(alone, 1e-3, model_params, xe_params)
    assert few.curve.read_bytes() == alone.curve.read_bytes()
