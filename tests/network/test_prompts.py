"""Prompts: their scale, their projection and their dropout."""

import torch

from fsgr_model.network.tuned_tail import LatePrompts


def make(dropout: float = 0.1) -> LatePrompts:
    torch.manual_seed(0)
    return LatePrompts(6, prompts=100, width=768, patch_size=(16, 16), dropout=dropout)


def test_the_initial_scale_is_the_published_one():
    prompts = make()
    assert prompts.vectors_NPW.shape == (6, 100, 768)
    assert 0.0624 < prompts.vectors_NPW.abs().max() <= 0.0625
    assert abs(prompts.projection.weight.std().item() - (2 / 768) ** 0.5) < 1e-3


def test_every_block_has_its_own_prompts_and_they_are_projected():
    prompts = make().eval()
    prompt_BPW = prompts(3, images=2)
    assert prompt_BPW.shape == (2, 100, 768)
    expected = prompts.vectors_NPW[3] @ prompts.projection.weight.T + prompts.projection.bias
    for image in prompt_BPW:
        torch.testing.assert_close(image, expected)
    assert not torch.allclose(prompts(4, images=2), prompt_BPW)


def test_dropout_falls_on_each_image_its_own_way():
    zeros = (make(0.5).train()(0, images=2) == 0).float()
    assert 0.48 < zeros.mean() < 0.52
    assert not torch.equal(zeros[0], zeros[1])


def test_prompts_can_begin_at_given_vectors():
    prompts = make(0.0)
    vectors_NPW = torch.randn(6, 100, 768)
    prompts.set_prompts(vectors_NPW)
    assert all(
        torch.equal(prompts(block, images=2), vectors_NPW[block].expand(2, -1, -1)) for block in range(6)
    )
    assert all(weight.requires_grad for weight in prompts.parameters())
