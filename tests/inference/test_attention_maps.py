"""The attention that is taken down is the one that the decoder used."""

from concurrent.futures import ThreadPoolExecutor

import torch

from fsgr_model.inference.image_captioner import attention_weights, recorded_image_attention
from fsgr_model.network.decoder import CaptionDecoder

B, S, L, G, D, V, LAYERS = 2, 3, 4, 9, 16, 7, 2


def decoder() -> CaptionDecoder:
    torch.manual_seed(0)
    return CaptionDecoder(torch.randn(V, D), D, num_heads=4, d_ff=32, num_layers=LAYERS, dropout=0.0).eval()


@torch.no_grad()
def test_weights_give_what_the_fused_kernel_gave():
    attention = decoder().layers[0].image_attention
    query_BQD, image_BGD = torch.randn(B, L, D), torch.randn(B, G, D)
    keys, values = attention.keys_values(image_BGD, image_BGD)
    weights_BHQG = attention_weights(attention, query_BQD, keys)
    again = attention.out((weights_BHQG @ values).transpose(1, 2).flatten(2))
    torch.testing.assert_close(again, attention(query_BQD, keys, values))


@torch.no_grad()
def test_every_layer_is_heard_once_and_changes_nothing():
    network = decoder()
    start = network.start(torch.randn(B, G, D), torch.randn(G, D))
    word_BSL = torch.randint(4, V, (B, S, L))
    plain, _ = network(word_BSL, start)
    with recorded_image_attention(network) as recorded:
        heard, _ = network(word_BSL, start)
    assert torch.equal(plain, heard)
    assert [tuple(weights.shape) for weights in recorded] == [(B, 4, S * L, G)] * LAYERS
    for weights in recorded:
        torch.testing.assert_close(weights.sum(-1), torch.ones(B, 4, S * L))
    network(word_BSL, start)
    assert len(recorded) == LAYERS, "nothing listens any more"


@torch.no_grad()
def test_what_another_thread_does_meanwhile_is_not_heard():
    """The page captions a batch while it draws the maps of an earlier one."""
    network = decoder()
    start = network.start(torch.randn(B, G, D), torch.randn(G, D))
    word_BSL = torch.randint(4, V, (B, S, L))
    with recorded_image_attention(network) as recorded, ThreadPoolExecutor(1) as other:
        other.submit(network, word_BSL, start).result()
        assert recorded == []
        network(word_BSL, start)
    assert len(recorded) == LAYERS
