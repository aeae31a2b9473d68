"""Attention with a trained bias: PyTorch's numbers and gradients."""

import torch
import torch.nn.functional as F

from fsgr_model.kernels.attention import attention


def test_values_and_gradients_are_those_of_pytorch() -> None:
    torch.manual_seed(0)
    parts = [torch.randn(3, 4, 5, 8, dtype=torch.float64, requires_grad=True) for _ in range(3)]
    bias = torch.randn(4, 5, 5, dtype=torch.float64, requires_grad=True)
    upstream = torch.randn(3, 4, 5, 8, dtype=torch.float64)
    grads = []
    for attend in (attention, F.scaled_dot_product_attention):
        mixed = attend(*parts, attn_mask=bias)
        grads.append([mixed, *torch.autograd.grad(mixed, [*parts, bias], upstream)])
    for ours, theirs in zip(*grads, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-12, rtol=1e-12)


def test_without_a_trained_bias_it_is_pytorchs_own() -> None:
    torch.manual_seed(0)
    parts = [torch.randn(3, 4, 5, 8) for _ in range(3)]
    for mask in (None, torch.ones(5, 5, dtype=torch.bool).tril(), torch.randn(5, 5)):
        assert torch.equal(
            attention(*parts, attn_mask=mask), F.scaled_dot_product_attention(*parts, attn_mask=mask)
        )
