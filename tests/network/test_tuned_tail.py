"""Adapters and prompts in the tail, run from the cache, against open_clip run from pixels with the same
modules hooked into its own forward pass.

Shapes: B images, S captions, L positions, T tokens, G patches, W vision width, E joint width.
"""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from fsgr_model.clip.clip_vit import ClipBlock
from fsgr_model.clip.model_building import build_model
from fsgr_model.clip.sources import read_config
from fsgr_model.clip.split import Tail, TailOutput, Trunk
from fsgr_model.clip.towers import make_tail
from fsgr_model.clip.vit import run_block
from fsgr_model.config.model_params import ModelParams
from fsgr_model.network.captioner import Captioner
from fsgr_model.network.tuned_tail import TunedTail, tuned
from fsgr_model.runtime.errors import UserError
from fsgr_model.training.batches import Batch
from fsgr_model.training.task import Step
from fsgr_model.training.xe import CrossEntropy
from tests.worlds.captioner import with_tail

V, K = 13, 9
SMALL = {
    "embed_dim": 12,
    "vision_cfg": {"image_size": 12, "patch_size": 4, "layers": 4, "width": 16, "head_width": 8},
    "text_cfg": {"context_length": 8, "vocab_size": 100, "width": 8, "heads": 2, "layers": 1},
}
POOLED = {**SMALL, "vision_cfg": {**SMALL["vision_cfg"], "pool_type": "avg"}}
SCALED = {**SMALL, "vision_cfg": {**SMALL["vision_cfg"], "ls_init_value": 0.3}}
DEMO = read_config("fsgr_model/clip/demo_vit.json")[1]
CLIPS = {"class token": (SMALL, 2), "average": (POOLED, 1), "layer scale": (SCALED, 2), "demo": (DEMO, 1)}


def model_params(**changes: Any) -> ModelParams:
    values = {"encoder_layers": 1, "decoder_layers": 1, "dropout": 0.1, "top_k": 4} | changes
    inside = {name: values.pop(name, usual) for name, usual in (("adapters", True), ("prompts", 3))}
    params = ModelParams(d_model=24, num_heads=4, d_ff=32, **values)
    return with_tail(params, **inside)


def make(config: dict[str, Any], cut: int, **changes: Any) -> tuple[nn.Module, Captioner]:
    """A random CLIP, and a network on its tail whose adapters and prompts are far from zero."""
    torch.manual_seed(0)
    clip = build_model(config, "small").eval()
    E = config["embed_dim"]
    codebook_KE, word_VE = (F.normalize(torch.randn(rows, E), dim=-1) for rows in (K, V))
    params = model_params(**changes)
    tail = Tail(clip, cut, params.align)
    captioner = Captioner(tail, tail.grid_size[0], codebook_KE, word_VE, params=params)
    with torch.no_grad():
        for weight in visual_weights(captioner).values():
            weight.normal_(std=0.2)
    return clip, captioner


def visual_weights(captioner: Captioner) -> dict[str, nn.Parameter]:
    return {name: weight for name, weight in captioner.trained_weights().items() if name.startswith("tail.")}


class HookedClip(nn.Module):
    """open_clip's own image encoder with adapters and prompts hooked in: nothing cut, nothing cached."""

    def __init__(self, clip: nn.Module, cut: int, tail: TunedTail) -> None:
        super().__init__()
        self.clip, self.tail = clip, tail
        self.blocks = clip.visual.transformer.resblocks
        assert tail.adapters is not None and tail.prompts is not None
        self.P = tail.prompts.vectors_NPW.shape[1]
        for number, block in enumerate(self.blocks[cut:]):
            block.register_forward_pre_hook(self.prompted(number), with_kwargs=True)
            block.ls_1.register_forward_hook(lambda _, __, out, a=tail.adapters[number]: a(out))
        self.blocks[-1].register_forward_pre_hook(self.keep_input, with_kwargs=True)
        clip.visual.transformer.register_forward_hook(self.keep_output)

    def prompted(self, number: int) -> Any:
        def hook(_: Any, given: Any, named: Any) -> Any:
            x = given[0]
            patches = x[:, 1 + self.P :] if number else x[:, 1:]
            prompts = self.tail.prompts
            vector_BPW = prompts.projection(prompts.vectors_NPW[number]).expand(len(x), -1, -1)
            return (torch.cat([x[:, :1], prompts.dropout(vector_BPW), patches], 1), *given[1:]), named

        return hook

    def without_prompts(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat([x[:, :1], x[:, 1 + self.P :]], dim=1)

    def keep_input(self, _: Any, given: Any, __: Any) -> None:
        self.before_last = self.without_prompts(given[0])

    def keep_output(self, _: Any, __: Any, out: torch.Tensor) -> torch.Tensor:
        self.last = self.without_prompts(out)
        return self.last

    def aligned(self, align: str) -> torch.Tensor:
        """The last block by hand, with its adapter and among no prompts."""
        block, x = self.blocks[-1], self.before_last
        heads = block.attn.num_heads
        q, k, v = (y.unflatten(-1, (heads, -1)).transpose(1, 2) for y in ClipBlock(block).query_key_value(x))
        scale = q.shape[-1] ** -0.5
        pairs = {"plain": [(q, k)], "csa": [(q, q), (k, k)], "qk_kk": [(q, k), (k, k)]}[align]
        weights = sum((y @ z.transpose(-1, -2) * scale).softmax(-1) for y, z in pairs)
        mixed = (weights @ v).transpose(1, 2).flatten(2)
        x = x + block.ls_1(block.attn.out_proj(mixed))
        return x + block.ls_2(block.mlp(block.ln_2(x)))

    def train(self, mode: bool = True) -> "HookedClip":
        self.tail.train(mode)
        return self

    def forward(self, images: torch.Tensor) -> TailOutput:
        visual = self.clip.visual
        global_BE = self.clip.encode_image(images)
        aligned_BTW = self.aligned(self.tail.frozen.align)
        return TailOutput(self.last[:, 1:], global_BE, visual.ln_post(aligned_BTW[:, 1:]) @ visual.proj)


def xe_step(captioner: Captioner, seen: torch.Tensor) -> float:
    """The loss of a training step, always with the same random numbers; gradients lie in the weights."""
    caption_BSL = torch.randint(4, V, (len(seen), 2, 6), generator=torch.Generator().manual_seed(4))
    captioner.train().zero_grad()
    # With some seeds float16 changes which concept is the likeliest for a patch, and gradients by a tenth.
    torch.manual_seed(8)
    batch = Batch(list(range(len(seen))), seen, caption_BSL)
    loss, _ = CrossEntropy().loss(captioner, batch, Step(seed=0, epoch=1, index=0))
    loss.backward()
    return loss.item()


def largest_difference(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> float:
    """Relative distance of the two gradients of a weight, the largest of all weights."""
    return max(((found[name] - own).norm() / own.norm()).item() for name, own in expected.items())


@pytest.mark.parametrize("align", ["csa", "qk_kk", "plain"])
@pytest.mark.parametrize("name", CLIPS)
def test_a_step_from_the_cache_is_a_step_from_pixels(name, align):
    config, cut = CLIPS[name]
    clip, captioner = make(config, cut, align=align)
    # The gradient of a key's bias is zero, but for rounding: it moves all logits of a query alike.
    weights = {name: w for name, w in captioner.trained_weights().items() if not name.endswith("key.bias")}
    side = config["vision_cfg"]["image_size"]
    images = torch.randn(3, 3, side, side, generator=torch.Generator().manual_seed(6))
    with torch.no_grad():
        tokens_BTW = Trunk(clip, cut)(images)

    def step(seen: torch.Tensor) -> tuple[float, dict[str, torch.Tensor]]:
        loss = xe_step(captioner, seen)
        return loss, {name: weight.grad.clone() for name, weight in weights.items()}

    cached_loss, cached = step(tokens_BTW)
    half_loss, half = step(tokens_BTW.half().float())
    captioner.tail = HookedClip(clip, cut, captioner.tail)
    loss, gradients = step(images)
    assert cached_loss == pytest.approx(loss, rel=1e-6)
    assert half_loss == pytest.approx(loss, rel=1e-4)
    assert largest_difference(cached, gradients) < 3e-5
    assert largest_difference(half, gradients) < 2e-2


@torch.no_grad()
def test_adapters_that_were_never_trained_change_nothing():
    torch.manual_seed(0)
    tail = Tail(build_model(POOLED, "small"), 2, "csa")
    tokens_BTW = torch.randn(3, 10, 16)
    adapted = tuned(tail, model_params(prompts=0))
    assert all(map(torch.equal, tail(tokens_BTW), adapted(tokens_BTW)))


@pytest.mark.parametrize("config", [SMALL, POOLED])
def test_prompts_are_seen_and_leave_no_trace_in_the_shape(config):
    torch.manual_seed(0)
    tail = Tail(build_model(config, "small"), 2, "csa")
    tokens_BTW = torch.randn(3, 10, 16)
    with_prompts = tuned(tail, model_params(adapters=False)).eval()
    for plain, prompted in zip(tail(tokens_BTW), with_prompts(tokens_BTW), strict=True):
        assert plain.shape == prompted.shape
        assert not torch.allclose(plain, prompted)


def test_without_either_the_frozen_tail_is_used_as_it_is():
    tail = Tail(build_model(SMALL, "small"), 1, "csa")
    assert tuned(tail, model_params(adapters=False, prompts=0)) is tail


@pytest.mark.parametrize("align", ["csa", "qk_kk", "plain"])
def test_aligned_patches_run_the_last_block_with_its_adapter_and_not_its_prompts(align):
    clip, captioner = make(SMALL, 3, align=align)
    tail = captioner.tail.eval()
    tokens_BTW = torch.randn(2, 10, 16)
    block = ClipBlock(clip.visual.transformer.resblocks[-1])
    expected = run_block(block, tokens_BTW, align, tail.adapters[-1])[:, 1:]
    expected = clip.visual.ln_post(expected) @ clip.visual.proj
    torch.testing.assert_close(tail(tokens_BTW).align_BGE, expected)


def test_images_of_a_batch_do_not_mix():
    _, captioner = make(SMALL, 2)
    tail = captioner.tail.eval()
    tokens_BTW, order = torch.randn(4, 10, 16), torch.tensor([2, 0, 3, 1])
    for whole, mixed in zip(tail(tokens_BTW), tail(tokens_BTW[order]), strict=True):
        torch.testing.assert_close(mixed, whole[order], atol=1e-5, rtol=1e-5)


def test_a_step_in_bf16_is_nearly_one_in_float32():
    _, captioner = make(SMALL, 2, prompts=4)
    tokens_BTW = torch.randn(3, 10, 16)
    exact = xe_step(captioner, tokens_BTW)
    with torch.autocast("cpu", torch.bfloat16):
        assert xe_step(captioner, tokens_BTW) == pytest.approx(exact, rel=0.03)
    assert all(weight.grad.isfinite().all() for weight in visual_weights(captioner).values())


def test_only_adapters_and_prompts_of_the_tail_are_trained_and_kept():
    _, captioner = make(SMALL, 2)
    assert {name.split(".")[1] for name in visual_weights(captioner)} == {"adapters", "prompts"}
    captioner.train()
    assert captioner.tail.training and captioner.tail.prompts.dropout.training
    assert not any(module.training for module in captioner.tail.frozen.modules())
    before = [weight.clone() for weight in captioner.tail.frozen.parameters()]
    xe_step(captioner, torch.randn(2, 10, 16))
    torch.optim.SGD(captioner.parameters(), lr=1.0).step()
    assert all(map(torch.equal, before, captioner.tail.frozen.parameters()))


def test_a_resnet_has_no_blocks_to_tune() -> None:
    config = {**SMALL, "vision_cfg": {"image_size": 64, "layers": [1, 1, 1, 1], "width": 8}}
    tail = make_tail(build_model(config, "small-rn"), 0, "csa")
    assert tuned(tail, model_params(adapters=False, prompts=0)) is tail
    with pytest.raises(UserError, match=r"this CLIP has none; set model\.tail: null"):
        tuned(tail, model_params())
