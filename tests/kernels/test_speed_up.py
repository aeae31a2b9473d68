"""One call makes a network faster, and it computes what it did."""

import torch
from torch import nn

from fsgr_model.kernels.drop_ins import attention_of, product_of
from fsgr_model.kernels.dropout import FastDropout
from fsgr_model.kernels.inference import speed_up_inference
from fsgr_model.kernels.products import linear
from fsgr_model.kernels.training import speed_up_training
from fsgr_model.network.attention import FeedForward, MultiHeadAttention


class Small(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attention = MultiHeadAttention(16, 4)
        self.feed_forward = FeedForward(16, 32, dropout=0.5)

    def forward(self, x_NMD: torch.Tensor, bias_QM: torch.Tensor) -> torch.Tensor:
        keys, values = self.attention.keys_values(x_NMD, x_NMD)
        return self.feed_forward(self.attention(x_NMD, keys, values, bias_QM))


def test_the_network_computes_what_it_did() -> None:
    torch.manual_seed(0)
    network = Small().eval()
    x_NMD, bias_QM = torch.randn(2, 5, 16), torch.randn(5, 5, requires_grad=True)
    plain = network(x_NMD, bias_QM)
    names = network.state_dict().keys()
    speed_up_training(network)
    assert network.state_dict().keys() == names
    torch.testing.assert_close(network(x_NMD, bias_QM), plain, atol=1e-6, rtol=1e-5)
    speed_up_inference(network)
    torch.testing.assert_close(network(x_NMD, bias_QM), plain, atol=1e-6, rtol=1e-5)


def test_what_is_not_installed_is_plain_pytorch() -> None:
    layer = Small().attention
    assert attention_of(layer) is nn.functional.scaled_dot_product_attention
    assert product_of(layer) is nn.functional.linear


def test_dropout_and_products_are_installed_in_every_module() -> None:
    network = Small()
    speed_up_training(network)
    dropouts = [module for module in network.modules() if isinstance(module, nn.Dropout)]
    assert dropouts and all(type(module) is FastDropout and module.p == 0.5 for module in dropouts)
    assert product_of(network.attention) is linear
