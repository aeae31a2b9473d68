"""CLIP's ResNets in the pipeline's terms: their map as tokens, their attention pool as the tail."""

import json
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

from fsgr_model.clip.codebook import Codebook
from fsgr_model.clip.loading import load_clip
from fsgr_model.clip.model_building import build_model
from fsgr_model.clip.open_clip_api import open_clip
from fsgr_model.clip.resnet import ResNetTail, ResNetTrunk
from fsgr_model.clip.split import Tail, Trunk
from fsgr_model.clip.token_cache import token_shape
from fsgr_model.clip.towers import image_and_patches, make_tail, make_trunk
from fsgr_model.config.params import LabelsParams, RefineParams, RuntimeParams
from fsgr_model.runtime.errors import UserError
from fsgr_model.runtime.row_store import RowStore
from pipeline.clip import prepare_clip
from pipeline.features import extract_features
from pipeline.labels import make_label_maps
from tests.worlds.clip import tiny_config

ALIGNMENTS = ("plain", "csa", "qk_kk", "value")


def tiny_resnet_config():
    """96 px, a map of 3 x 3, width 256, 4 heads."""
    config = tiny_config()
    config["vision_cfg"] = {"image_size": 96, "layers": [1, 1, 1, 1], "width": 8, "patch_size": None}
    return config


@pytest.fixture
def model():
    torch.manual_seed(2)
    made = build_model(tiny_resnet_config(), "tiny-rn").eval()
    for layer in (made.visual.layer1, made.visual.layer2, made.visual.layer3, made.visual.layer4):
        torch.nn.init.normal_(layer[0].bn3.weight)
    return made


@torch.inference_mode()
def check_parity(model, size):
    images = torch.randn(2, 3, size, size)
    expected_BE = model.encode_image(images)
    tokens_BTW = make_trunk(model, 0)(images)
    tail = make_tail(model, 0, "value")
    assert (tail(tokens_BTW).global_BE - expected_BE).abs().max() < 1e-4
    cached_BE = F.normalize(tail(tokens_BTW.half()).global_BE, dim=-1)
    assert (cached_BE - F.normalize(expected_BE, dim=-1)).norm(dim=-1).max() < 2e-3


@torch.inference_mode()
def test_training_sees_the_pool_and_its_value_path(model):
    images = torch.randn(2, 3, 96, 96)
    image_BE, patch_BGE = image_and_patches(model, images)
    aligned_BGE = make_tail(model, 0, "value").aligned(make_trunk(model, 0)(images))
    torch.testing.assert_close(image_BE, model.encode_image(images, normalize=True))
    torch.testing.assert_close(patch_BGE, F.normalize(aligned_BGE, dim=-1))


def test_trunk_then_tail_is_encode_image(model):
    check_parity(model, 96)


@pytest.mark.slow
def test_trunk_then_tail_is_encode_image_of_rn50():
    torch.manual_seed(1)
    config = open_clip.get_model_config("RN50")
    config["text_cfg"] |= {"vocab_size": 100, "layers": 1}
    check_parity(build_model(config, "RN50").eval(), 224)


@torch.inference_mode()
@pytest.mark.parametrize("align", ALIGNMENTS)
def test_shapes_and_the_map_as_the_grid(model, align):
    images = torch.randn(2, 3, 96, 96)
    trunk, tail = make_trunk(model, 0), make_tail(model, 0, align)
    tokens_BTW = trunk(images)
    assert tokens_BTW.shape[1:] == trunk.token_shape == (10, 256)
    torch.testing.assert_close(tokens_BTW[:, 0], tokens_BTW[:, 1:].mean(dim=1))
    seen = tail(tokens_BTW)
    assert torch.equal(seen.grid_BGW, tokens_BTW[:, 1:])
    assert seen.align_BGE.shape == (2, 9, 16)
    torch.testing.assert_close(tail.aligned(tokens_BTW), seen.align_BGE)
    assert tail.grid_size == (3, 3) and (tail.width, tail.joint_width) == (256, 16)
    assert tail.last_keys(tokens_BTW).shape == (2, 9, 256)


@torch.inference_mode()
def test_plain_alignment_lets_every_place_ask(model):
    """The attention pool of open_clip, if the place were its first token."""
    pool = model.visual.attnpool
    tokens_BTW = make_trunk(model, 0)(torch.randn(1, 3, 96, 96))
    found = make_tail(model, 0, "plain").aligned(tokens_BTW)
    placed = tokens_BTW + pool.positional_embedding
    attention = torch.nn.MultiheadAttention(256, pool.num_heads, batch_first=True)
    projections = (pool.q_proj, pool.k_proj, pool.v_proj)
    attention.in_proj_weight.copy_(torch.cat([each.weight for each in projections]))
    attention.in_proj_bias.copy_(torch.cat([each.bias for each in projections]))
    attention.out_proj = torch.nn.Identity()
    attention.out_proj.weight, attention.out_proj.bias = torch.eye(256), torch.zeros(256)
    expected = pool.c_proj(attention(placed, placed, placed)[0])[:, 1:]
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)


@torch.inference_mode()
def test_value_alignment_is_two_projections_of_the_place(model):
    """MaskCLIP: no mean token, no position embedding, no other place."""
    pool = model.visual.attnpool
    tokens_BTW = torch.randn(1, 10, 256)
    found = make_tail(model, 0, "value").aligned(tokens_BTW)
    as_convolutions = F.conv2d(
        F.conv2d(
            tokens_BTW[:, 1:].transpose(1, 2).unflatten(2, (3, 3)),
            pool.v_proj.weight[..., None, None],
            pool.v_proj.bias,
        ),
        pool.c_proj.weight[..., None, None],
        pool.c_proj.bias,
    )
    torch.testing.assert_close(found, as_convolutions.flatten(2).transpose(1, 2), atol=1e-5, rtol=1e-4)
    changed = tokens_BTW.clone()
    changed[:, 0] += 1
    changed[:, 5] += 1
    other = make_tail(model, 0, "value").aligned(changed)
    same = [place for place in range(9) if torch.equal(other[0, place], found[0, place])]
    assert same == [0, 1, 2, 3, 5, 6, 7, 8]


def test_only_the_attention_pool_can_be_the_tail(model):
    with pytest.raises(UserError, match=r"clip\.cut 6: a ResNet .* set clip\.cut: 0"):
        make_trunk(model, 6)
    with pytest.raises(UserError, match=r"clip\.cut 1: a ResNet"):
        make_tail(model, 1, "csa")


def test_a_transformer_is_split_as_ever():
    transformer = build_model(tiny_config(), "tiny")
    assert type(make_trunk(transformer, 1)) is Trunk and type(make_tail(transformer, 1, "csa")) is Tail


def test_nothing_of_the_tail_is_trained(model):
    tail = make_tail(model, 0, "csa").train()
    assert not tail.training and not any(weight.requires_grad for weight in tail.parameters())


def test_from_the_checkpoint_to_label_maps(model, dataset, tmp_path, monkeypatch):
    monkeypatch.setenv("DVC_ROOT", str(tmp_path / "root"))
    (tmp_path / "tiny-rn.json").write_text(json.dumps(tiny_resnet_config()))
    torch.save(model.state_dict(), tmp_path / "rn.pt")
    runtime = RuntimeParams(workers=0, image_batch=8)
    names = (str(tmp_path / "tiny-rn.json"), str(tmp_path / "rn.pt"))
    prepare_clip(
        names[0],
        pretrained=names[1],
        resize_mode="squash",
        preprocess_as="RN50/openai",
        training=None,
        dataset=Path("none"),
        runtime=runtime,
        out=tmp_path / "clip",
    )
    extract_features(
        dataset,
        clip_folder=tmp_path / "clip",
        cut=0,
        cache_dtype="int8",
        runtime=runtime,
        out=tmp_path / "features",
    )
    clip = load_clip(tmp_path / "clip", torch.device("cpu"))
    concepts_KE = F.normalize(torch.randn(5, 16), dim=-1)
    Codebook(list("abcde"), concepts_KE, {"weights": clip.identity["weights"]}).save(tmp_path / "codebook")
    params = LabelsParams(attention="value", refine=RefineParams(key_smoothing=True, prompt_denoising=0.1))
    places = (tmp_path / "codebook", tmp_path / "features")
    make_label_maps(
        tmp_path / "clip",
        0,
        places[0],
        cache_dtype="int8",
        features=places[1],
        params=params,
        runtime=runtime,
        out=tmp_path / "labels",
    )
    features = RowStore(tmp_path / "features" / "val.h5", {**clip.identity, "cut": 0})
    assert token_shape(features) == (10, 256) and features.load_all().any()
    assert RowStore(tmp_path / "labels" / "val.h5", {}).row_shape == (9,)
    assert isinstance(make_tail(clip.model, 0, "csa"), ResNetTail)
    assert isinstance(make_trunk(clip.model, 0), ResNetTrunk)
