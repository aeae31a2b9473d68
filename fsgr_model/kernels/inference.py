"""One call makes a network faster that will not be trained any more; without it, it is plain PyTorch."""

from torch import nn

from fsgr_model.kernels.attention import avoid_plans
from fsgr_model.kernels.onednn_layers import use_onednn_for_inference
from fsgr_model.kernels.products import speed_up_products


def speed_up_inference(network: nn.Module) -> None:
    """Replace layers for the device that the network is on; its outputs stay the same up to rounding."""
    avoid_plans()
    speed_up_products(network)
    use_onednn_for_inference(network)
