"""`F.scaled_dot_product_attention`, faster on a CPU with a trained bias, and on a GPU where shapes change.

Shapes: N batch rows, H heads, Q queries, M keys, C width per head.
"""

import torch
import torch.nn.functional as F
from torch import Tensor


def attention(query_NHQC: Tensor, key_NHMC: Tensor, value_NHMC: Tensor, attn_mask: Tensor | None) -> Tensor:
    """[N, H, Q, C], equal to PyTorch's up to rounding, with gradients; `attn_mask` as there.

    No fused CPU kernel has a gradient for the bias. PyTorch's plain implementation passes three times through
    the weights to find fully masked rows, which a trained bias never produces.
    """
    if attn_mask is None or not attn_mask.requires_grad or attn_mask.device.type != "cpu":
        return F.scaled_dot_product_attention(query_NHQC, key_NHMC, value_NHMC, attn_mask=attn_mask)
    weights_NHQM = query_NHQC / query_NHQC.shape[-1] ** 0.5 @ key_NHMC.transpose(2, 3) + attn_mask
    return weights_NHQM.softmax(dim=-1) @ value_NHMC


def avoid_plans() -> None:
    """Leave attention to PyTorch's own kernels in this process, not to cuDNN.

    For every new shape cuDNN makes a plan, which takes 50 ms on an H100 and 130 ms with gradients, a thousand
    times as long as the call. The length of captions makes new shapes all the time: without this, a step of
    self-critical training takes ten times as long (docs/experiments/gpu.md, findings/).
    """
    torch.backends.cuda.enable_cudnn_sdp(False)
