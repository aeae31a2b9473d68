"""The three ways around a sublayer by hand, and the sizes they give the layers."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from fsgr_model.network.attention import MultiHeadAttention
from fsgr_model.network.decoder import DecoderLayer
from fsgr_model.network.encoder import EncoderLayer
from fsgr_model.network.residual import around_attention, around_feed_forward, final_norm

D = 6


def norm(x: torch.Tensor) -> torch.Tensor:
    return F.layer_norm(x, (D,))


def sublayer(x: torch.Tensor) -> torch.Tensor:
    return 3 * x.flip(-1) + 1


@pytest.mark.parametrize(
    ("kind", "by_hand"),
    [
        ("post", lambda x, p: norm(x + sublayer(x + p))),
        ("double", lambda x, p: norm(x + norm(x + p + sublayer(x + p)))),
        ("pre", lambda x, p: x + sublayer(norm(x) + p)),
    ],
)
def test_around_attention_by_hand(kind, by_hand):
    torch.manual_seed(0)
    x, position = torch.randn(2, 4, D), torch.randn(4, D)
    residual = around_attention(kind, D, nn.Dropout(0.0))
    query = residual.before(x) + position
    torch.testing.assert_close(residual.after(x, query, sublayer(query)), by_hand(x, position))


def test_the_feed_forward_layer_has_its_residual_once():
    x = torch.randn(2, 4, D)
    residual = around_feed_forward("double", D, nn.Dropout(0.0))
    read = residual.before(x)
    torch.testing.assert_close(residual.after(x, read, sublayer(read)), norm(x + sublayer(x)))


def test_only_pre_norm_needs_a_norm_behind_the_layers():
    x = torch.randn(2, 4, D)
    torch.testing.assert_close(final_norm("pre", D)(x), norm(x))
    assert final_norm("post", D)(x) is x and final_norm("double", D)(x) is x


@pytest.mark.parametrize("kind", ["post", "double", "pre"])
def test_dropout_acts_on_what_the_sublayer_made(kind):
    torch.manual_seed(0)
    x = torch.randn(50, D)
    residual = around_attention(kind, D, nn.Dropout(0.5)).train()
    assert not torch.equal(residual.after(x, x, 100 * x), residual.after(x, x, 100 * x))
    assert torch.equal(residual.eval().after(x, x, x), residual.after(x, x, x))


def pytorchs_attention(ours: MultiHeadAttention) -> dict[str, torch.Tensor]:
    """Our weights under the names of nn.MultiheadAttention."""
    inner = (ours.query, ours.key, ours.value)
    return {
        "in_proj_weight": torch.cat([linear.weight for linear in inner]),
        "in_proj_bias": torch.cat([linear.bias for linear in inner]),
        "out_proj.weight": ours.out.weight,
        "out_proj.bias": ours.out.bias,
    }


@pytest.mark.parametrize("kind", ["post", "pre"])
def test_a_decoder_layer_is_pytorchs(kind):
    torch.manual_seed(0)
    ours = DecoderLayer(
        16, num_heads=4, d_ff=32, dropout=0.1, residual=kind, memory="none", memory_size=0
    ).eval()
    theirs = torch.nn.TransformerDecoderLayer(
        16, 4, 32, 0.1, batch_first=True, norm_first=kind == "pre"
    ).eval()
    with torch.no_grad():
        for residual in (ours.self_residual, ours.image_residual, ours.feed_forward_residual):
            residual.norm.weight.normal_()
            residual.norm.bias.normal_()
    theirs.self_attn.load_state_dict(pytorchs_attention(ours.self_attention))
    theirs.multihead_attn.load_state_dict(pytorchs_attention(ours.image_attention))
    theirs.linear1.load_state_dict(ours.feed_forward[0].state_dict())
    theirs.linear2.load_state_dict(ours.feed_forward[3].state_dict())
    theirs.norm1.load_state_dict(ours.self_residual.norm.state_dict())
    theirs.norm2.load_state_dict(ours.image_residual.norm.state_dict())
    theirs.norm3.load_state_dict(ours.feed_forward_residual.norm.state_dict())
    word_BLD, image_BGD = torch.randn(3, 5, 16), torch.randn(3, 9, 16)
    later_LL = torch.ones(5, 5).triu(1).bool()
    expected = theirs(word_BLD, image_BGD, tgt_mask=later_LL, tgt_is_causal=True)
    actual, _ = ours(word_BLD[:, None], ours.image_keys_values(image_BGD, image_BGD), ~later_LL)
    torch.testing.assert_close(actual[:, 0], expected, atol=1e-5, rtol=1e-5)


def size(layer: torch.nn.Module) -> int:
    return sum(weight.numel() for weight in layer.parameters())


@pytest.mark.parametrize(("kind", "norms"), [("post", 3), ("double", 5), ("pre", 3)])
def test_size_of_a_decoder_layer(kind, norms):
    attention, feed_forward = 4 * (512 * 512 + 512), 2 * 512 * 2048 + 2048 + 512
    layer = DecoderLayer(
        512, num_heads=8, d_ff=2048, dropout=0.1, residual=kind, memory="none", memory_size=0
    )
    assert size(layer) == 2 * attention + feed_forward + norms * 2 * 512
    if kind == "double":
        assert size(layer) == 4_206_080  # the reference's 4.206 million


@pytest.mark.parametrize(("kind", "norms"), [("post", 2), ("double", 3), ("pre", 2)])
def test_size_of_an_encoder_layer(kind, norms):
    attention, feed_forward = 4 * (512 * 512 + 512), 2 * 512 * 2048 + 2048 + 512
    layer = EncoderLayer(
        512, num_heads=8, d_ff=2048, dropout=0.1, side=3, patch_attention=False, semantics=True, residual=kind
    )
    assert size(layer) == attention + 8 * 65 + feed_forward + norms * 2 * 512
