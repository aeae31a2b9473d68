"""The text tower read word by word: the same embedding as open_clip's, and states of the right words."""

import pytest
import torch
from torch import nn

from fsgr_model.clip.loading import Clip
from fsgr_model.clip.model_building import build_model
from fsgr_model.clip.text_tower import TextTower
from fsgr_model.runtime.errors import UserError

CAPTIONS = [line.split() for line in ("a tortoiseshell cat", "dogs", "a man 's red car on the wet street")]
WORDS = {word for caption in CAPTIONS for word in caption}
JOINT = 6


def small_clip(custom: bool = False, **text) -> Clip:
    torch.manual_seed(0)
    config = {
        "embed_dim": JOINT,
        "custom_text": custom,
        "vision_cfg": {"image_size": 8, "patch_size": 4, "layers": 1, "width": 16, "head_width": 8},
        "text_cfg": {
            "context_length": 20, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 2, **text,
        },
    }  # fmt: skip
    model = build_model(config, "small").eval().requires_grad_(False)
    return Clip(model, lambda image: image, config, {})


@pytest.mark.parametrize("custom", [False, True])
def test_the_caption_embedding_is_open_clips(custom):
    clip = small_clip(custom)
    states = TextTower(clip, WORDS)(CAPTIONS)
    expected_BE = clip.model.encode_text(clip.tokenizer([" ".join(caption) for caption in CAPTIONS]))
    torch.testing.assert_close(states.caption_BE, expected_BE)


def test_a_token_belongs_to_the_word_it_is_a_piece_of():
    clip = small_clip()
    token_BC, word_BC = TextTower(clip, WORDS).tokens(CAPTIONS)
    for caption, tokens, words in zip(CAPTIONS, token_BC.tolist(), word_BC.tolist(), strict=True):
        for number, word in enumerate(caption):
            pieces = [token for token, owner in zip(tokens, words, strict=True) if owner == number]
            assert clip.tokenizer.decode(pieces).strip() == word
    assert word_BC[0].tolist().count(1) > 1, "the long word must be several pieces"
    assert word_BC[1].tolist() == [-1, 0] + [-1] * (word_BC.shape[1] - 2)


def test_other_captions_of_the_batch_have_no_influence():
    tower = TextTower(small_clip(), WORDS)
    alone, together = tower(CAPTIONS[:1]), tower(CAPTIONS)
    torch.testing.assert_close(alone.caption_BE, together.caption_BE[:1])
    length = alone.token_BCE.shape[1]
    torch.testing.assert_close(alone.token_BCE, together.token_BCE[:1, :length])


def test_what_exceeds_the_context_is_cut():
    states = TextTower(small_clip(context_length=5), WORDS)(CAPTIONS)
    assert states.word_BC.shape == (3, 5)
    assert states.word_BC[2].tolist() == [-1, 0, 1, 2, -1]


def test_the_vision_tower_is_let_go():
    clip = small_clip()
    tower = TextTower(clip, WORDS)
    held = [*vars(tower).values(), *tower.layers]
    assert not any(value is clip.model for value in held)
    kept = {id(weight) for value in held if isinstance(value, nn.Module) for weight in value.parameters()}
    assert kept.isdisjoint(id(weight) for weight in clip.model.visual.parameters())


@pytest.mark.parametrize("text", [{"pool_type": "last"}, {"no_causal_mask": True}, {"proj_bias": True}])
def test_a_text_tower_of_another_kind_is_refused(text):
    with pytest.raises(UserError, match="is of another kind"):
        TextTower(small_clip(custom=True, **text), WORDS)


def test_a_word_of_which_nothing_is_left_is_refused():
    with pytest.raises(UserError, match=r"has no token for these words of the captions: \[' '\]"):
        TextTower(small_clip(), [*WORDS, " "])
