"""One call gives a network the faster layers of this room; without it, it is plain PyTorch.

Each kernel computes what PyTorch's layer does, up to rounding; dropout, with other random numbers.
"""

from torch import nn

from fsgr_model.kernels.attention import attention
from fsgr_model.kernels.drop_ins import ATTENTION, PRODUCT
from fsgr_model.kernels.dropout import FastDropout
from fsgr_model.kernels.onednn_layers import hand_to_onednn, train_with_onednn
from fsgr_model.kernels.products import linear


def speed_up_training(network: nn.Module) -> None:
    """For a network that is going to be trained, on the device on which it is."""
    speed_up_products(network)
    train_with_onednn(network)
    if next(network.parameters()).device.type != "cpu":
        return
    for module in list(network.modules()):
        setattr(module, ATTENTION, attention)
        for name, layer in module.named_children():
            if type(layer) is nn.Dropout:
                setattr(module, name, FastDropout(layer.p).train(layer.training))


def speed_up_inference(network: nn.Module) -> None:
    """For a network that will not be trained any more, on the device on which it is."""
    speed_up_products(network)
    hand_to_onednn(network)


def speed_up_products(network: nn.Module) -> None:
    """For the products of weights that a layer takes apart, such as those of `nn.MultiheadAttention`."""
    for module in network.modules():
        setattr(module, PRODUCT, linear)
