"""Captions of image files are those that the pipeline makes from its cache."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from fsgr_model.datasets.image_file import open_rgb
from fsgr_model.datasets.normal_form import read_images
from fsgr_model.inference.beam_search import beam_search
from fsgr_model.inference.describing import Caption
from fsgr_model.inference.image_captioner import ImageCaptioner
from fsgr_model.inference.model_folder import ModelFiles, pipeline_model
from fsgr_model.runtime.errors import UserError
from fsgr_model.runtime.row_store import RowStore
from fsgr_model.runtime.tensor_file import save_tensors
from fsgr_model.runtime.unset_weights import FILLS, INITIALISERS, UnsetWeights
from fsgr_model.scoring.coco_files import read_results


@pytest.fixture
def captioner(files: ModelFiles) -> ImageCaptioner:
    return ImageCaptioner(files)


@pytest.fixture
def images(project: Path, captioner: ImageCaptioner) -> dict[int, torch.Tensor]:
    """The prepared images of the test split."""
    records = read_images(project / "data" / "dataset", "test")
    return {record.image_id: captioner.prepare(open_rgb(Path(record.path))) for record in records}


def test_captions_are_those_of_the_stage(project, captioner, images):
    of_stage = read_results(project / "data" / "captions" / "xe.json")
    described = captioner.describe(list(images.values()))
    spoken = {image_id: each.captions[0].text for image_id, each in zip(images, described, strict=True)}
    assert spoken == of_stage
    assert len(set(spoken.values())) > 2, "the small network tells its pictures apart"


def test_every_weight_comes_from_a_file(files, captioner, monkeypatch):
    """What memory happened to hold when the network was built is nowhere in it."""

    def spoiled(self, function, types, arguments=(), named=None):
        found = function(*arguments, **(named or {}))
        if function in INITIALISERS | FILLS:
            found.data.fill_(torch.nan)
        return found

    monkeypatch.setattr(UnsetWeights, "__torch_function__", spoiled)
    again = ImageCaptioner(files)
    for ours, theirs in (
        (captioner.assembly.captioner, again.assembly.captioner),
        (captioner.clip.model, again.clip.model),
    ):
        expected = dict([*ours.named_parameters(), *ours.named_buffers()])
        found = dict([*theirs.named_parameters(), *theirs.named_buffers()])
        assert expected.keys() == found.keys()
        assert all(torch.equal(expected[name], found[name]) for name in expected)


def test_tokens_are_those_of_the_cache(project, captioner, images):
    cached = RowStore(project / "data" / "features" / "test.h5", {}).rows(list(images))
    tokens = captioner.tokens(list(images.values())).numpy()
    np.testing.assert_allclose(tokens, cached.astype(np.float32), rtol=2e-3, atol=2e-3)


def test_label_map_is_that_of_the_stage(project, captioner, images):
    stored = RowStore(project / "data" / "labels" / "test.h5", {}).rows(list(images))
    drawn = np.stack([captioner.label_map(image).ravel() for image in images.values()])
    assert (drawn == stored).mean() > 0.99


def test_images_of_a_batch_do_not_mix(captioner, images):
    alone = [captioner.describe([image])[0] for image in images.values()]
    together = captioner.describe(list(images.values())[::-1])[::-1]
    for one, many in zip(alone, together, strict=True):
        assert one.captions[0].word_ids == many.captions[0].word_ids
        assert one.captions[0].log_probability == pytest.approx(many.captions[0].log_probability, abs=1e-4)
        assert np.array_equal(one.concept_SS, many.concept_SS)


@torch.no_grad()
def test_log_probability_is_the_score_of_the_beam(captioner, images):
    network = captioner.assembly.captioner
    start = network.encode(captioner.tokens(list(images.values()))).start
    _, score_BS = beam_search(network.step, start, len(images), beam_size=3, max_length=10)
    found = [each.captions[0].log_probability for each in captioner.describe(list(images.values()))]
    assert found == pytest.approx(score_BS[:, 0].tolist(), abs=1e-4)


def test_samples_are_as_many_as_asked_and_follow_the_seed(files, images):
    def drawn(seed: int) -> list[list[str]]:
        captioner = ImageCaptioner(files, decode={"sampling.samples": 6}, seed=seed)
        return [[c.text for c in each.captions] for each in captioner.describe(list(images.values()))]

    first = drawn(0)
    assert {len(texts) for texts in first} == {6}
    assert first == drawn(0) != drawn(1)
    assert max(len(set(texts)) for texts in first) > 1


def test_beam_size_replaces_that_of_the_parameters(files):
    assert ImageCaptioner(files, decode={"beam_size": 1}).decode.beam_size == 1
    assert ImageCaptioner(files).decode.beam_size == 3


def test_attention_has_a_map_that_sums_to_one_for_each_word(captioner, images):
    image = next(iter(images.values()))
    caption = captioner.describe([image])[0].captions[0]
    attention_LSS = captioner.attention(image, caption)
    assert attention_LSS.shape == (len(caption.text.split()), 4, 4)
    np.testing.assert_allclose(attention_LSS.sum(axis=(1, 2)), 1, rtol=1e-5)


def test_a_caption_without_a_word_has_no_map(captioner, images):
    attention_LSS = captioner.attention(
        next(iter(images.values())), Caption("", [], -0.1, words=[], word_probabilities=[])
    )
    assert attention_LSS.shape == (0, 4, 4)


def test_weights_that_are_not_there_or_say_nothing(project, tmp_path):
    with pytest.raises(UserError, match=r"scst/model\.safetensors does not exist"):
        ImageCaptioner(pipeline_model("scst", project))
    foreign = ModelFiles(project / "data", tmp_path, project / "params.yaml")
    for made_with, message in (
        ({}, "contains no captioner of this project"),
        ({"format_version": 1}, "does not say how its network was built"),
        ({"format_version": 2}, "written by a newer version of this project: format 2, this one reads 1"),
    ):
        facts = {"made_with": json.dumps(made_with)}
        save_tensors(tmp_path / "model.safetensors", {"weight": torch.zeros(1)}, facts)
        with pytest.raises(UserError, match=message):
            ImageCaptioner(foreign)
