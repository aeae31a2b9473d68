"""Adapters and prompts in the blocks of every kind of transformer: run from the cache, against the library's
own forward pass from pixels with the same modules hooked into it.

Shapes: B images, T tokens = leading ones + G patches, P prompts per block, W vision width.
"""

from typing import Any, get_args

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fsgr_model.clip.towers import make_tail, make_trunk
from fsgr_model.clip.vit import Align
from fsgr_model.config.model_params import ModelParams
from fsgr_model.network.tuned_tail import TunedTail, tuned
from tests.worlds.captioner import with_tail
from tests.worlds.towers import TRANSFORMERS, images_for, small_tower

CUT, P = 1, 3


def blocks_of(model: Any) -> Any:
    visual = model.visual
    return visual.trunk.blocks if hasattr(visual, "trunk") else visual.transformer.resblocks


def hook_into(model: Any, tail: TunedTail) -> list[Tensor]:
    """Put the tail's adapters and prompts into the model itself; its last tokens come into the list.

    Adapters follow what the attention adds: `drop_path1` of timm and `ls_1` of open_clip, identities here.
    """
    seen: list[Tensor] = []
    blocks, prefix = blocks_of(model), tail.frozen.prefix

    def without_prompts(x: Tensor) -> Tensor:
        return torch.cat([x[:, :prefix], x[:, prefix + P :]], dim=1)

    def enter(number: int) -> Any:
        def hook(_: Any, given: Any) -> Any:
            x_BTW = without_prompts(given[0]) if number else given[0]
            prompt_BPW = tail.prompts(number, len(x_BTW))
            return (torch.cat([x_BTW[:, :prefix], prompt_BPW, x_BTW[:, prefix:]], dim=1), *given[1:])

        return hook

    def leave(_: Any, __: Any, out: Tensor) -> Tensor:
        seen.append(without_prompts(out))
        return seen[-1]

    for number, block in enumerate(blocks[CUT:]):
        block.register_forward_pre_hook(enter(number))
        after_attention = block.drop_path1 if hasattr(block, "drop_path1") else block.ls_1
        after_attention.register_forward_hook(lambda _, __, out, adapter=tail.adapters[number]: adapter(out))
        if getattr(block.attn, "num_prefix_tokens", None) is not None:
            # Rotary positions are those of the patches: timm leaves so many leading tokens out.
            block.attn.num_prefix_tokens += P
    blocks[-1].register_forward_hook(leave)
    return seen


def trained(tail: TunedTail) -> dict[str, nn.Parameter]:
    return {name: weight for name, weight in tail.named_parameters() if weight.requires_grad}


def gradients_of(embedding_BE: Tensor, tail: TunedTail) -> dict[str, Tensor]:
    """Of a sum of the embedding's numbers, each with a weight of its own."""
    unit_BE = F.normalize(embedding_BE, dim=-1)
    weights_BE = torch.randn(unit_BE.shape, generator=torch.Generator().manual_seed(7))
    found = torch.autograd.grad((unit_BE * weights_BE).sum(), list(trained(tail).values()))
    return dict(zip(trained(tail), found, strict=True))


@pytest.mark.parametrize("kind", TRANSFORMERS)
def test_tuned_from_the_cache_is_tuned_from_pixels(kind: str, model_params: ModelParams) -> None:
    """The image's embedding, the patches after the last block, and the gradient of every trained weight."""
    model, images = small_tower(kind), images_for(kind)
    tail = tuned(make_tail(model, CUT, "plain"), with_tail(model_params, adapters=True, prompts=P)).eval()
    with torch.no_grad():
        for weight in trained(tail).values():
            weight.normal_(std=0.2)
        plain_BE = F.normalize(model.encode_image(images), dim=-1)
        tokens_BTW = make_trunk(model, CUT)(images)
    cached = tail(tokens_BTW)
    cached_gradients = gradients_of(cached.global_BE, tail)
    last = hook_into(model, tail)
    image_BE = model.encode_image(images)
    found_BE, expected_BE = F.normalize(cached.global_BE, dim=-1), F.normalize(image_BE, dim=-1)
    torch.testing.assert_close(found_BE, expected_BE, atol=1e-5, rtol=1e-4)
    assert (found_BE - plain_BE).norm() > 1e-2
    torch.testing.assert_close(cached.grid_BGW, tail.frozen.patches(last[0]), atol=1e-4, rtol=1e-4)
    for name, expected in gradients_of(image_BE, tail).items():
        assert (cached_gradients[name] - expected).norm() <= 1e-4 * expected.norm(), name


@torch.no_grad()
@pytest.mark.parametrize("kind", TRANSFORMERS)
def test_adapters_that_were_never_trained_change_nothing(kind: str, model_params: ModelParams) -> None:
    model = small_tower(kind)
    tokens_BTW = make_trunk(model, CUT)(images_for(kind))
    for align in get_args(Align):
        tail = make_tail(model, CUT, align)
        adapted = tuned(tail, with_tail(model_params, adapters=True))
        assert adapted is not tail
        assert all(map(torch.equal, tail(tokens_BTW), adapted(tokens_BTW)))
