import pytest
import torch
from torch.nn import functional as F

from fsgr_model.clip.loading import load_clip
from fsgr_model.clip.text_embeddings import embed_texts, templates
from fsgr_model.clip.text_tower import text_embedding


@pytest.fixture(scope="module")
def clip(clip_folder):
    return load_clip(clip_folder, torch.device("cpu"))


def test_mean_of_unit_embeddings_is_made_unit(clip):
    prompts = ["a {}", "there is a {} in the scene."]
    found = embed_texts(clip, ["dog", "night sky"], prompts)
    assert found.shape == (2, 16)
    for row, name in zip(found, ["dog", "night sky"], strict=True):
        each = [
            F.normalize(clip.model.encode_text(clip.tokenizer([p.replace("{}", name)]))[0], dim=0)
            for p in prompts
        ]
        torch.testing.assert_close(row, F.normalize((each[0] + each[1]) / 2, dim=0))


def test_more_texts_than_fit_a_step(clip, monkeypatch):
    names = [f"word{number}" for number in range(7)]
    whole = embed_texts(clip, names, ["{}", "a {}"])
    monkeypatch.setattr("fsgr_model.clip.text_embeddings.TEXTS_PER_STEP", 3)
    torch.testing.assert_close(embed_texts(clip, names, ["{}", "a {}"]), whole)


def test_a_long_list_is_never_encoded_at_once(clip, monkeypatch):
    sizes = []

    def counted(model, tokens):
        sizes.append(len(tokens))
        return text_embedding(model, tokens)

    monkeypatch.setattr("fsgr_model.clip.text_embeddings.text_embedding", counted)
    prompts = templates("imagenet")
    found = embed_texts(clip, [f"thing {number}" for number in range(10)], prompts)
    assert found.shape == (10, 16) and sum(sizes) == 850 and max(sizes) == 255


def test_imagenet_templates_are_the_85_of_maskclip():
    prompts = templates("imagenet")
    assert len(set(prompts)) == 85
    assert prompts[0] == "a bad photo of a {}."
    assert sum(prompt.endswith("in the scene.") for prompt in prompts) == 5


@pytest.mark.parametrize("name", ["imagenet", "simple", "scene", "word"])
def test_every_template_has_one_place_for_the_concept(name):
    assert all(prompt.count("{}") == 1 for prompt in templates(name))


def test_braces_in_a_word_are_kept(clip):
    assert torch.equal(embed_texts(clip, ["{x}"], ["{}"]), embed_texts(clip, ["{x}"], templates("word")))
