"""One call makes a network train faster; without it, it is plain PyTorch.

Each kernel computes what PyTorch's layer computes, up to rounding; dropout uses other random numbers.
"""

from torch import nn

from fsgr_model.kernels.attention import attention, avoid_plans
from fsgr_model.kernels.drop_ins import ATTENTION
from fsgr_model.kernels.dropout import FastDropout
from fsgr_model.kernels.freed_memory import keep_freed_memory
from fsgr_model.kernels.onednn_layers import use_onednn_for_training
from fsgr_model.kernels.products import speed_up_products


def speed_up_training(network: nn.Module) -> None:
    """Replace layers of a network that will be trained, for the device that it is on."""
    avoid_plans()
    speed_up_products(network)
    use_onednn_for_training(network)
    if next(network.parameters()).device.type != "cpu":
        return
    keep_freed_memory()
    for module in list(network.modules()):
        setattr(module, ATTENTION, attention)
        for name, layer in module.named_children():
            if type(layer) is nn.Dropout:
                setattr(module, name, FastDropout(layer.p).train(layer.training))
