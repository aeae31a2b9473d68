"""Every kind of vision tower of open_clip in the pipeline's terms: a trunk that is cached and a tail."""

import math
from collections.abc import Iterator

import pytest
import torch
from torch.nn import functional as F

from fsgr_model.clip.loading import load_clip, save_clip
from fsgr_model.clip.logit_scale import CLIP_SCALE
from fsgr_model.clip.model_building import build_model, default_preprocessing
from fsgr_model.clip.towers import check_tower, image_and_patches, kind_of, make_tail, make_trunk
from fsgr_model.clip.vit import run_block
from fsgr_model.kernels.inference import speed_up_inference
from fsgr_model.network.tuned_tail import run_prompted_block, tuned
from fsgr_model.runtime.errors import UserError
from tests.worlds.captioner import with_tail
from tests.worlds.towers import ALL, STAGED, TRANSFORMERS, images_for, small_tower

RELATIVE = 1e-4


def relative_error(found: torch.Tensor, expected: torch.Tensor) -> float:
    return ((found - expected).norm() / expected.norm()).item()


def cuts_of(model) -> Iterator[int]:
    """Every cut that the tower has."""
    cut = kind_of(model).first_cut
    while True:
        try:
            make_trunk(model, cut)
        except UserError:
            return
        yield cut
        cut += 1


@torch.inference_mode()
@pytest.mark.parametrize("kind", ALL)
def test_trunk_then_tail_is_encode_image(kind):
    """At every cut; relative error in float32. CoCa's own embedding is normalised, so both are."""
    model, images = small_tower(kind), images_for(kind)
    expected_BE = F.normalize(model.encode_image(images), dim=-1)
    assert relative_error(expected_BE[0], expected_BE[1]) > 1e-3
    cuts = list(cuts_of(model))
    assert len(cuts) >= 2
    for cut in cuts:
        trunk, tail = make_trunk(model, cut), make_tail(model, cut, "plain")
        tokens_BTW = trunk(images)
        assert tokens_BTW.shape[1:] == trunk.token_shape
        seen = tail(tokens_BTW)
        assert relative_error(F.normalize(seen.global_BE, dim=-1), expected_BE) < RELATIVE
        assert seen.grid_BGW.shape == (2, tail.grid_size[0] * tail.grid_size[1], tail.width)
        assert seen.align_BGE.shape == (*seen.grid_BGW.shape[:2], tail.joint_width)
        assert seen.global_BE.shape == (2, tail.joint_width)
        torch.testing.assert_close(tail.aligned(tokens_BTW), seen.align_BGE)


@pytest.mark.parametrize("kind", ALL)
def test_training_sees_what_the_pipeline_sees(kind):
    """The image's embedding and the patches."""
    model, images = small_tower(kind), images_for(kind)
    image_BE, patch_BGE = image_and_patches(model, images)
    cut = kind_of(model).first_cut
    with torch.inference_mode():
        aligned_BGE = make_tail(model, cut, "plain").aligned(make_trunk(model, cut)(images))
        expected_BE = F.normalize(model.encode_image(images), dim=-1)
    assert relative_error(image_BE, expected_BE) < RELATIVE
    assert relative_error(patch_BGE, F.normalize(aligned_BGE, dim=-1)) < RELATIVE


@pytest.mark.parametrize("kind", ALL)
def test_gradients_reach_the_first_layer(kind):
    model, images = small_tower(kind).train(), images_for(kind)
    for seen in image_and_patches(model, images):
        first = next(weight for weight in model.visual.parameters() if weight.dim() == 4)
        (gradient,) = torch.autograd.grad(seen[..., 0].sum(), first, retain_graph=True)
        assert gradient.isfinite().all() and gradient.any()


@pytest.mark.parametrize("kind", ["timm, attention pool (SigLIP)", "timm, PE-Core", "timm, ConvNeXt"])
def test_the_scale_is_the_model_s_own_where_it_has_a_bias(kind):
    model = small_tower(kind)
    model.logit_scale.data.fill_(2.0)
    expected = math.exp(2) if "init_logit_bias" in ALL[kind] else CLIP_SCALE
    assert make_tail(model, 1, "value").logit_scale == pytest.approx(expected)


@torch.inference_mode()
@pytest.mark.parametrize("kind", ALL)
def test_features_survive_float16_and_the_kernels(kind):
    model, images = small_tower(kind), images_for(kind)
    cut = kind_of(model).first_cut + 1
    trunk, tail = make_trunk(model, cut), make_tail(model, cut, "value")
    expected = tail(trunk(images))
    speed_up_inference(trunk)
    speed_up_inference(tail)
    seen = tail(trunk(images))
    assert all(relative_error(*pair) < RELATIVE for pair in zip(seen, expected, strict=True))
    cached = tail(trunk(images).half())
    assert all(relative_error(*pair) < 1e-2 for pair in zip(cached, expected, strict=True))


@torch.inference_mode()
@pytest.mark.parametrize("kind", TRANSFORMERS)
def test_a_patch_is_placed_as_if_it_were_the_only_token(kind):
    """The value path of an attention pool, and what the mean of one patch is."""
    tail = make_tail(small_tower(kind), 1, "plain")
    patch_BGW = torch.randn(2, 4, tail.width)
    placed_BGE = tail.head.place(patch_BGW)
    tail.head.unpooled = 0
    for place in range(4):
        alone_BE = tail.head.embed(patch_BGW[:, place : place + 1])
        torch.testing.assert_close(placed_BGE[:, place], alone_BE, atol=1e-5, rtol=1e-4)


@torch.inference_mode()
@pytest.mark.parametrize("kind", STAGED)
def test_the_mean_of_the_positions_is_the_embedding_where_all_behind_the_pool_is_linear(kind):
    model = small_tower(kind)
    trunk, tail = make_trunk(model, 1), make_tail(model, 1, "value")
    if "ConvNeXt" in kind:
        tail.head[0].norm = torch.nn.Identity()
    seen = tail(trunk(images_for(kind)))
    same = relative_error(seen.align_BGE.mean(dim=1), seen.global_BE) < RELATIVE
    assert same == ("two layers" not in kind)
    assert relative_error(seen.align_BGE[:, 0], seen.align_BGE[:, 1]) > 1e-3


BESIDES_COCA = [kind for kind in TRANSFORMERS if kind != "open_clip, CoCa"]


def tokens_of(tail):
    return torch.randn(2, tail.prefix + tail.grid_size[0] * tail.grid_size[1], tail.width)


@torch.inference_mode()
@pytest.mark.parametrize("kind", BESIDES_COCA)
def test_the_value_path_of_a_block_is_the_library_s_block_of_one_token(kind):
    tail = make_tail(small_tower(kind), 1, "value")
    block, x_BTW = tail.blocks[0], tokens_of(tail)
    found = run_block(block, x_BTW, "value")
    for place in (0, 3):
        alone = block.layer(x_BTW[:, place : place + 1])
        torch.testing.assert_close(found[:, place : place + 1], alone, atol=1e-5, rtol=1e-4)


@torch.inference_mode()
@pytest.mark.parametrize("kind", BESIDES_COCA)
def test_prompts_are_further_tokens_of_the_library_s_block(kind):
    """Where places are rotated, prompts are not: the library calls such tokens leading ones."""
    tail = make_tail(small_tower(kind), 1, "value")
    block, x_BTW, prompt_BPW = tail.blocks[0], tokens_of(tail), torch.randn(2, 3, tail.width)
    found = run_prompted_block(block, x_BTW, prompt_BPW, None)
    given = {}
    if getattr(block, "rope", None) is not None:
        block.layer.attn.num_prefix_tokens += 3
        given = {"rope": block.rope.get_embed()}
    longer = torch.cat([x_BTW[:, : tail.prefix], prompt_BPW, x_BTW[:, tail.prefix :]], dim=1)
    made = block.layer(longer, **given)
    expected = torch.cat([made[:, : tail.prefix], made[:, tail.prefix + 3 :]], dim=1)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("kind", TRANSFORMERS)
def test_adapters_and_prompts_are_trained_inside_the_blocks(kind, model_params):
    model = small_tower(kind)
    tail = tuned(make_tail(model, 1, "csa"), with_tail(model_params, adapters=True, prompts=2))
    tokens_BTW = make_trunk(model, 1)(images_for(kind)).detach()
    sum(part.square().sum() for part in tail(tokens_BTW)).backward()
    trained = {name: weight for name, weight in tail.named_parameters() if weight.requires_grad}
    assert {name.split(".")[0] for name in trained} == {"adapters", "prompts"}
    assert all(weight.grad.any() for name, weight in trained.items() if ".down" not in name)


@pytest.mark.parametrize("kind", ALL)
def test_a_model_read_from_its_folder_sees_the_same(kind, tmp_path):
    """What loading leaves uninitialised is in the file, and what is not in the file is computed."""
    model, images = small_tower(kind), images_for(kind)
    preprocessing = default_preprocessing(ALL[kind], {})
    save_clip(tmp_path, model, kind, ALL[kind], preprocessing=preprocessing, origin={})
    again = load_clip(tmp_path, torch.device("cpu")).model
    cut = kind_of(model).first_cut
    with torch.inference_mode():
        expected_BE = model.encode_image(images)
        torch.testing.assert_close(again.encode_image(images), expected_BE, atol=1e-5, rtol=1e-4)
        seen, expected = (
            make_tail(each, cut, "value")(make_trunk(each, cut)(images)) for each in (again, model)
        )
    assert all(relative_error(*pair) < RELATIVE for pair in zip(seen, expected, strict=True))


@pytest.mark.parametrize("kind", STAGED)
def test_what_needs_attention_is_refused_by_a_tower_without(kind, model_params):
    model = small_tower(kind)
    with pytest.raises(UserError, match=r"csa is a form of attention.*model\.align and labels\.attention"):
        make_tail(model, 4, "csa")
    tail = make_tail(model, 4, "value")
    with pytest.raises(UserError, match=r"labels\.key_smoothing .* set it to false"):
        tail.last_keys(torch.zeros(1))
    with pytest.raises(UserError, match=r"set model\.tail: null"):
        tuned(tail, with_tail(model_params, adapters=True))


@pytest.mark.parametrize(("kind", "stages"), [("timm, ConvNeXt", 4), ("timm, FastViT in five stages", 5)])
def test_a_cut_that_lies_between_no_stages_is_refused(kind, stages):
    for cut in (0, stages + 1):
        with pytest.raises(UserError, match=rf"clip\.cut {cut}: .* use 1 to {stages} \({stages} caches all"):
            make_trunk(small_tower(kind), cut)


def with_timm(name, **arguments):
    config = ALL["timm, mean, norm behind it"]
    vision = {**config["vision_cfg"], "timm_model_name": name, "timm_model_args": arguments}
    return {**config, "vision_cfg": vision}


def test_a_tower_that_cannot_be_cut_is_refused_by_its_name():
    model = build_model(with_timm("test_vit_relpos", img_size=32), "relative")
    with pytest.raises(UserError, match=r"timm\.VisionTransformerRelPos.* docs/reference/towers\.md"):
        check_tower(model)


def test_an_architecture_that_timm_lacks_is_refused_by_its_name():
    with pytest.raises(
        UserError, match=r"timm \S+ has no architecture 'convnext_of_tomorrow'; install a newer"
    ):
        build_model(with_timm("convnext_of_tomorrow"), "tomorrow")


def test_an_argument_of_null_is_refused():
    """timm would take its own default without a word."""
    config = ALL["timm, ConvNeXt"]
    arguments = {**config["vision_cfg"]["timm_model_args"], "ls_init_value": None}
    vision = {**config["vision_cfg"], "timm_model_args": arguments}
    with pytest.raises(UserError, match="timm_model_args has null for ls_init_value"):
        build_model({**config, "vision_cfg": vision}, "null")
