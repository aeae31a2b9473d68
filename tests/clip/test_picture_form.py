"""A file of weights is prepared as the tags of its architecture are, never silently as OpenAI's."""

import pytest

from fsgr_model.clip import sources
from fsgr_model.clip.open_clip_api import open_clip
from fsgr_model.clip.picture_form import form_of_file, form_of_tag
from fsgr_model.clip.sources import load_pretrained
from fsgr_model.runtime.errors import UserError

SIGLIP = {"mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5), "interpolation": "bicubic"}


@pytest.mark.parametrize(
    ("name", "mean", "interpolation"),
    [
        ("ViT-B-16-SigLIP2-256", 0.5, "bicubic"),
        ("PE-Core-L-14-336", 0.5, "bilinear"),
        ("MobileCLIP2-S0", 0.0, "bilinear"),
        ("ViT-L-14-CLIPA", 0.485, "bilinear"),
        ("ViT-B-16", 0.48145466, "bicubic"),
        ("ViT-H-14", 0.48145466, "bicubic"),
    ],
)
def test_a_file_is_prepared_as_all_tags_of_its_architecture_are(name, mean, interpolation):
    """The tags of ViT-H-14 differ in how they resize, which `clip.resize_mode` says anyway."""
    form = form_of_file(name, None)
    assert (form["mean"][0], form["interpolation"]) == (mean, interpolation)


def test_tags_that_disagree_are_told():
    with pytest.raises(UserError, match=r"tags of ViT-L-14 disagree, laion2b_s32b_b82k with openai .*"):
        form_of_file("ViT-L-14", None)
    half = form_of_file("ViT-L-14", "laion2b_s32b_b82k")
    assert half == SIGLIP
    assert form_of_file("ViT-L-14", "openai") == form_of_file("ViT-B-16", None)


def test_an_architecture_without_tags_asks():
    with pytest.raises(UserError, match=r"no tag of tiny; set clip\.preprocess_as .* ViT-B-16/openai"):
        form_of_file("tiny", None)
    assert form_of_file("tiny", "ViT-B-16-SigLIP/webli") == SIGLIP


@pytest.mark.parametrize("named", ["openia", "ViT-B-16/openia", "ViT-B-61/openai"])
def test_an_unknown_tag_is_told_with_those_that_there_are(named):
    with pytest.raises(UserError, match=r"clip\.preprocess_as: open_clip has no tag '.*' of .* \(its tags: "):
        form_of_file("ViT-B-16", named)


def test_a_tag_knows_by_itself(monkeypatch):
    monkeypatch.setattr(sources, "fetch_weights", lambda hf_hub: pytest.fail("before any download"))
    with pytest.raises(UserError, match=r"the tag openai says how .* set it to null"):
        load_pretrained("ViT-B-16", {}, "openai", "ViT-B-16/openai")


def test_only_one_architecture_has_tags_that_disagree():
    """So that a file of any other needs no parameter."""
    asking = []
    for name in {name for name, _ in open_clip.list_pretrained()}:
        tags = open_clip.list_pretrained_tags_by_model(name)
        forms = [form_of_tag(open_clip.get_pretrained_cfg(name, tag)) for tag in tags]
        asking += [name] if any(form != forms[0] for form in forms) else []
    assert asking == ["ViT-L-14"]
