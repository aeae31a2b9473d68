"""`F.linear`, whose large float32 products oneDNN computes on a CPU where that is faster.

PyTorch multiplies float32 matrices with MKL, which on an AMD CPU with AVX-512 reached half to three quarters
of what oneDNN did at this project's sizes; on one with AVX2 alone it was a third faster (the numbers are in
docs/experiments/speed.md). PyTorch contains both.

Shapes: M rows, N outputs, D inputs.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fsgr_model.kernels.drop_ins import PRODUCT

# In operations; a multiplication and an addition count 2. oneDNN compiles a program for every new number of
# rows, in 0.7 ms. A product as large as this saves that time again in two or three uses.
LARGE_PRODUCT = 2e8


def linear(x: Tensor, weight_ND: Tensor, bias_N: Tensor | None = None) -> Tensor:
    """`F.linear` up to rounding, with gradients: [..., D] -> [..., N], in the dtype of x."""
    # PyTorch's compiler chooses products by itself, and does not see into oneDNN's.
    if not torch.compiler.is_compiling() and _is_large(x, weight_ND) and onednn_pays():
        return _OneDnnProduct.apply(x, weight_ND, bias_N)
    return F.linear(x, weight_ND, bias_N)


def speed_up_products(network: nn.Module) -> None:
    """For the products of weights that a layer takes apart, such as those of `nn.MultiheadAttention`."""
    for module in network.modules():
        setattr(module, PRODUCT, linear)


def onednn_pays() -> bool:
    """Whether this PyTorch has oneDNN (a Mac's has not) and the CPU the instructions it is faster with."""
    return torch.backends.mkldnn.is_available() and torch.backends.cpu.get_cpu_capability() == "AVX512"


def onednn_product(x: Tensor, weight_ND: Tensor, bias_N: Tensor | None) -> Tensor:
    """[..., D] -> [..., N] in float32, without gradient; the weights in PyTorch's layout or in oneDNN's."""
    # What PyTorch's compiler makes of a linear layer: input and output stay in PyTorch's own layout.
    return torch.ops.mkldnn._linear_pointwise(x.contiguous(), weight_ND, bias_N, "none", [], "")


def _is_large(x: Tensor, weight_ND: Tensor) -> bool:
    return (
        x.device.type == "cpu"
        and x.dtype == weight_ND.dtype == torch.float32
        and 2 * x.numel() * len(weight_ND) >= LARGE_PRODUCT
        and not torch.is_autocast_enabled("cpu")
    )


class _OneDnnProduct(torch.autograd.Function):
    """The gradient of the weights stays with MKL, which makes it faster."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight_ND: Tensor, bias_N: Tensor | None) -> Tensor:
        # Views of larger weights must be copied first: oneDNN would take a thousand times as long for them.
        weight_ND = weight_ND.contiguous()
        ctx.save_for_backward(x, weight_ND)
        return onednn_product(x, weight_ND, bias_N)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        x, weight_ND = ctx.saved_tensors
        for_x, for_weight, for_bias = ctx.needs_input_grad
        grad_MN = grad.flatten(0, -2)
        return (
            onednn_product(grad, weight_ND.T, None) if for_x else None,
            grad_MN.T @ x.flatten(0, -2) if for_weight else None,
            grad_MN.sum(dim=0) if for_bias else None,
        )
