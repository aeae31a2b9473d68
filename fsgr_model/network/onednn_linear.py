"""Linear layers as oneDNN multiplies them, for features and captions on a CPU.

PyTorch multiplies float32 matrices with MKL, which on an AMD CPU with AVX-512 reached two thirds of what
oneDNN did; on one with AVX2 alone it was a third faster (docs/speed.md has the numbers). PyTorch brings both
along; layers of a network that is not trained any more can be handed to oneDNN once, weights in its layout.

Shapes: N outputs, D inputs.
"""

import torch
from torch import Tensor, nn

from fsgr_model.clip.resnet import ResNetTail


class OneDnnLinear(nn.Module):
    """Computes what the float32 `nn.Linear` that it is made of computes, up to rounding; without gradient."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        # Neither parameters nor buffers: tensors in oneDNN's layout can be neither moved nor saved.
        self.weight_ND = torch.ops.mkldnn._reorder_linear_weight(linear.weight.detach())
        self.bias_N = None if linear.bias is None else linear.bias.detach()

    @torch.no_grad()
    def forward(self, x: Tensor) -> Tensor:
        """[..., D] -> [..., N]"""
        # What PyTorch's compiler makes of a linear layer: input and output stay in PyTorch's own layout.
        return torch.ops.mkldnn._linear_pointwise(x, self.weight_ND, self.bias_N, "none", [], "")


def onednn_pays() -> bool:
    """Whether this PyTorch has oneDNN (a Mac's has not) and the CPU the instructions it is faster with."""
    return torch.backends.mkldnn.is_available() and torch.backends.cpu.get_cpu_capability() == "AVX512"


def hand_to_onednn(network: nn.Module) -> None:
    """Replace every linear layer on the CPU by its `OneDnnLinear`; the network cannot be trained after that.

    Subclasses of `nn.Linear` stay, and the attention pool of a ResNet: what owns them reads their weights.
    Where that does not pay, nothing changes.
    """
    if not onednn_pays():
        return
    pools = [tail.pool for tail in network.modules() if isinstance(tail, ResNetTail)]
    for module in [module for module in network.modules() if module not in pools]:
        for name, layer in module.named_children():
            if type(layer) is nn.Linear and layer.weight.device.type == "cpu":
                setattr(module, name, OneDnnLinear(layer))
