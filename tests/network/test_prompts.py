"""Prompts: their scale, their place, and that the blocks' outputs for them are dropped."""

import torch

from fsgr_model.network.prompts import LatePrompts


def make(dropout: float = 0.1) -> LatePrompts:
    torch.manual_seed(0)
    return LatePrompts(6, 100, 768, (16, 16), dropout)


def test_the_initial_scale_is_the_published_one():
    prompts = make()
    assert prompts.vectors_NPW.shape == (6, 100, 768)
    assert 0.0624 < prompts.vectors_NPW.abs().max() <= 0.0625
    assert abs(prompts.projection.weight.std().item() - (2 / 768) ** 0.5) < 1e-3


def test_prompts_of_a_block_stand_between_the_class_token_and_the_patches():
    prompts = make().eval()
    tokens_BTW = torch.randn(2, 5, 768)
    longer = prompts.insert(3, tokens_BTW)
    assert longer.shape == (2, 105, 768)
    expected = prompts.vectors_NPW[3] @ prompts.projection.weight.T + prompts.projection.bias
    for image in longer[:, 1:101]:
        torch.testing.assert_close(image, expected)
    assert torch.equal(prompts.remove(longer), tokens_BTW)
    assert not torch.allclose(prompts.insert(4, tokens_BTW), longer)


def test_dropout_falls_on_prompts_alone_and_on_each_image_its_own():
    prompts = make(0.5).train()
    tokens_BTW = torch.randn(2, 5, 768)
    longer = prompts.insert(0, tokens_BTW)
    zeros = (longer[:, 1:101] == 0).float()
    assert 0.48 < zeros.mean() < 0.52
    assert not torch.equal(zeros[0], zeros[1])
    assert torch.equal(prompts.remove(longer), tokens_BTW)


def test_prompts_take_the_precision_of_the_tokens():
    with torch.autocast("cpu", torch.bfloat16):
        assert make().insert(0, torch.randn(2, 5, 768)).dtype == torch.float32
