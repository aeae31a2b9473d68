import math

import pytest
import torch
from torch.nn import functional as F

from fsgr_model.clip.clip_vit import ClipBlock
from fsgr_model.clip.model_building import build_model
from fsgr_model.clip.open_clip_api import open_clip
from fsgr_model.clip.split import Tail, Trunk
from fsgr_model.clip.vit import correlative_attention, run_block
from fsgr_model.runtime.errors import UserError
from tests.worlds.clip import tiny_config

VARIANTS = {
    "class token": {},
    "average": {"pool_type": "avg"},
    "average, norm after it": {"pool_type": "avg", "final_ln_after_pool": True},
    "no first norm, layer scale": {"no_ln_pre": True, "ls_init_value": 0.1},
}


def tiny_model(**vision):
    torch.manual_seed(1)
    return build_model(tiny_config(**vision), "tiny").eval()


def named_model(name, **vision):
    """The architecture's vision tower, with a text tower of one block, which has no part in it."""
    torch.manual_seed(1)
    config = open_clip.get_model_config(name)
    config["vision_cfg"] |= vision
    config["text_cfg"] |= {"vocab_size": 100, "layers": 1}
    return build_model(config, name).eval()


@torch.inference_mode()
def check_parity(model, size, cut):
    images = torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(5))
    expected_BE = model.encode_image(images)
    tokens_BTW = Trunk(model, cut)(images)
    tail = Tail(model, cut, "csa")
    assert (tail(tokens_BTW).global_BE - expected_BE).abs().max() < 1e-4
    cached_BE = F.normalize(tail(tokens_BTW.half()).global_BE, dim=-1)
    assert (cached_BE - F.normalize(expected_BE, dim=-1)).norm(dim=-1).max() < 2e-3


@pytest.mark.parametrize("cut", [0, 1, 2])
@pytest.mark.parametrize("variant", VARIANTS)
def test_trunk_then_tail_is_encode_image(variant, cut):
    check_parity(tiny_model(**VARIANTS[variant]), 32, cut)


def test_trunk_then_tail_is_encode_image_of_the_demo_model():
    from fsgr_model.clip.sources import read_config

    name, config = read_config("fsgr_model/clip/demo_vit.json")
    torch.manual_seed(1)
    check_parity(build_model(config, name).eval(), config["vision_cfg"]["image_size"], 1)


@pytest.mark.slow
def test_trunk_then_tail_is_encode_image_of_vit_b():
    check_parity(named_model("ViT-B-16"), 224, 6)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["ViT-B-32", "ViT-B-16-quickgelu", "ViT-L-14"])
def test_trunk_then_tail_is_encode_image_of_large_models(name):
    check_parity(named_model(name), 224, 6)


@pytest.mark.slow
def test_trunk_then_tail_is_encode_image_at_336_pixels():
    """Of 24 equal blocks, 3 are enough to tell."""
    check_parity(named_model("ViT-L-14-336", layers=3), 336, 1)


@torch.inference_mode()
def test_plain_alignment_is_the_projected_grid():
    model = tiny_model()
    out = Tail(model, 1, "plain")(Trunk(model, 1)(torch.randn(2, 3, 32, 32)))
    expected = model.visual.ln_post(out.grid_BGW) @ model.visual.proj
    torch.testing.assert_close(out.align_BGE, expected)
    assert out.grid_BGW.shape == (2, 16, 32)


@torch.inference_mode()
@pytest.mark.parametrize("align", ["plain", "csa", "qk_kk", "value"])
def test_aligned_is_the_third_output(align):
    model = tiny_model()
    tokens_BTW = torch.randn(2, 17, 32)
    tail = Tail(model, 1, align)
    torch.testing.assert_close(tail.aligned(tokens_BTW), tail(tokens_BTW).align_BGE)


@torch.inference_mode()
def test_value_path_mixes_no_tokens():
    """MaskCLIP: a patch depends on nothing but itself in the last block."""
    block = tiny_model().visual.transformer.resblocks[-1]
    x_BTW = torch.randn(1, 17, 32)
    value = block.ln_1(x_BTW) @ block.attn.in_proj_weight[64:].T + block.attn.in_proj_bias[64:]
    after = x_BTW + value @ block.attn.out_proj.weight.T + block.attn.out_proj.bias
    expected = after + block.mlp(block.ln_2(after))
    torch.testing.assert_close(run_block(ClipBlock(block), x_BTW, "value"), expected)
    alone = run_block(ClipBlock(block), x_BTW[:, 3:4], "value")
    torch.testing.assert_close(alone, expected[:, 3:4])


def test_correlative_attention_is_the_sum_of_two_softmaxes():
    query, key, value = torch.randn(3, 1, 5, 8)
    found = correlative_attention(query, key, value, 2, attention="csa")
    for head in (slice(0, 4), slice(4, 8)):
        q, k, v = (x[0, :, head] for x in (query, key, value))
        weights = (q @ q.T / math.sqrt(4)).softmax(-1) + (k @ k.T / math.sqrt(4)).softmax(-1)
        torch.testing.assert_close(found[0, :, head], weights @ v)


def test_rows_of_correlative_weights_sum_to_two():
    query, key = torch.randn(2, 1, 7, 8)
    for attention in ("csa", "qk_kk"):
        found = correlative_attention(query, key, torch.ones(1, 7, 8), 2, attention=attention)
        torch.testing.assert_close(found, torch.full((1, 7, 8), 2.0))


@torch.inference_mode()
def test_qk_kk_is_plain_attention_plus_keys_with_keys():
    """Plain attention of PyTorch's own layer, once as it is and once with the keys in the queries' place."""
    block = tiny_model().visual.transformer.resblocks[-1]
    x_BTW = torch.randn(2, 17, 32)
    normed = block.ln_1(x_BTW)
    plain = block.attn(normed, normed, normed, need_weights=False)[0]
    block.attn.in_proj_weight[:32] = block.attn.in_proj_weight[32:64]
    block.attn.in_proj_bias[:32] = block.attn.in_proj_bias[32:64]
    by_keys = block.attn(normed, normed, normed, need_weights=False)[0]
    after = x_BTW + plain + by_keys - block.attn.out_proj.bias
    expected = after + block.mlp(block.ln_2(after))
    found = run_block(ClipBlock(tiny_model().visual.transformer.resblocks[-1]), x_BTW, "qk_kk")
    torch.testing.assert_close(found, expected)


@torch.inference_mode()
def test_last_keys_are_those_of_the_last_block():
    model = tiny_model()
    tokens_BTW = torch.randn(1, 17, 32)
    block = model.visual.transformer.resblocks[-1]
    normed = block.ln_1(tokens_BTW)[:, 1:]
    expected = normed @ block.attn.in_proj_weight[32:64].T + block.attn.in_proj_bias[32:64]
    torch.testing.assert_close(Tail(model, 2, "value").last_keys(tokens_BTW), expected)


@pytest.mark.parametrize("cut", [3, 7, -1])
@pytest.mark.parametrize("part", [Trunk, lambda model, cut: Tail(model, cut, "csa")])
def test_a_cut_without_tail_is_refused_with_both_numbers(part, cut):
    with pytest.raises(UserError, match=rf"clip.cut {cut} .* 3 blocks"):
        part(tiny_model(), cut)


@pytest.mark.parametrize(
    ("vision", "message"),
    [
        ({"pool_type": "none"}, "pool_type tok or avg"),
        ({"qk_norm": True}, "CustomResidualAttentionBlock"),
        ({"layers": [1, 1, 1, 1], "width": 8}, "ModifiedResNet"),
    ],
)
def test_other_vision_towers_are_refused(vision, message):
    with pytest.raises(UserError, match=message):
        Trunk(tiny_model(**vision), 0)
