"""One call gives a network the faster layers of this room; without it, it is plain PyTorch."""

from torch import nn

from fsgr_model.kernels.onednn_layers import hand_to_onednn, train_with_onednn


def speed_up_training(network: nn.Module) -> None:
    """For a network that is going to be trained, on the device on which it is."""
    train_with_onednn(network)


def speed_up_inference(network: nn.Module) -> None:
    """For a network that will not be trained any more, on the device on which it is."""
    hand_to_onednn(network)
