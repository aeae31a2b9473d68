"""Networks whose linear layers oneDNN multiplies on a CPU where that is faster (`products.py` says where).

`use_onednn_for_inference` is for features and captions: it converts the weights to oneDNN's layout once.
`use_onednn_for_training` is for training: only large products go to oneDNN, and the weights stay as they are.

Shapes: N outputs, D inputs.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from fsgr_model.kernels.products import linear, onednn_pays, onednn_product

# A module lists here those of its parts whose weights are read outside of their own `forward`.
READ_BY_OWNER = "READS_WEIGHTS_OF"


class OneDnnLinear(nn.Module):
    """The same function as the float32 `nn.Linear` that it is made of, up to rounding; without gradient."""

    def __init__(self, layer: nn.Linear) -> None:
        super().__init__()
        # Neither parameters nor buffers: tensors in oneDNN's layout can be neither moved nor saved.
        self.weight_ND = torch.ops.mkldnn._reorder_linear_weight(layer.weight.detach())
        self.bias_N = None if layer.bias is None else layer.bias.detach()

    @torch.no_grad()
    def forward(self, x: Tensor) -> Tensor:
        """[..., D] -> [..., N]"""
        return onednn_product(x, self.weight_ND, self.bias_N)


class TrainedLinear(nn.Linear):
    """The `nn.Linear` that it is made of, weights and all, computed by `linear`."""

    def __init__(self, layer: nn.Linear) -> None:
        nn.Module.__init__(self)
        self.in_features, self.out_features = layer.in_features, layer.out_features
        self.weight, self.bias = layer.weight, layer.bias

    def forward(self, x: Tensor) -> Tensor:
        """[..., D] -> [..., N]"""
        return linear(x, self.weight, self.bias)


def use_onednn_for_inference(network: nn.Module) -> None:
    """Replace every linear layer on the CPU by its `OneDnnLinear`; the network cannot be trained after that.

    Subclasses of `nn.Linear` and the attention pool of a ResNet stay as they are, because their owners read
    their weights directly. Where oneDNN is not faster, nothing changes.
    """
    _replace_linear_layers(network, OneDnnLinear)


def use_onednn_for_training(network: nn.Module) -> None:
    """Replace the layers that `use_onednn_for_inference` would replace by their `TrainedLinear`."""
    _replace_linear_layers(network, TrainedLinear)


def _replace_linear_layers(network: nn.Module, by: Callable[[nn.Linear], nn.Module]) -> None:
    if not onednn_pays():
        return
    kinds = (nn.Linear, TrainedLinear)
    kept = [getattr(owner, name) for owner in network.modules() for name in getattr(owner, READ_BY_OWNER, ())]
    for module in [module for module in network.modules() if module not in kept]:
        for name, layer in module.named_children():
            if isinstance(layer, nn.Linear) and type(layer) in kinds and layer.weight.device.type == "cpu":
                setattr(module, name, by(layer))
