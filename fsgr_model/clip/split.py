"""A vision transformer cut in two: a frozen trunk, whose output is cached, and a tail that runs from it.

Shapes: B images, T tokens = leading ones (a class token, or none) + G patches, W vision width, E joint width.
"""

from typing import Any, NamedTuple

import torch
from torch import nn

from fsgr_model.clip.clip_vit import clip_vit
from fsgr_model.clip.eva_vit import eva_vit
from fsgr_model.clip.logit_scale import logit_scale_of
from fsgr_model.clip.timm_vit import timm_vit
from fsgr_model.clip.vit import Align, Head, Vit, run_block, run_blocks
from fsgr_model.runtime.errors import UserError

# Vision transformers by the name that `tower_name` gives them.
VITS = {
    "open_clip.VisionTransformer": clip_vit,
    "timm.VisionTransformer": timm_vit,
    "timm.Eva": eva_vit,
}


class TailOutput(NamedTuple):
    """What the captioner sees of an image; nothing is normalised.

    `grid_BGW`: patch tokens after the last block, without the final layer norm.
    `global_BE`: the image embedding, equal to open_clip's `encode_image`.
    `align_BGE`: patch tokens in the joint space, from the last block run as `align` says.
    """

    grid_BGW: torch.Tensor
    global_BE: torch.Tensor
    align_BGE: torch.Tensor


class FrozenTail(nn.Module):
    """What every tail has: the weights of CLIP itself, frozen.

    `width` is that of the grid, `joint_width` that of the joint space; `logit_scale` is that of the CLIP.
    """

    width: int
    joint_width: int
    grid_size: tuple[int, int]
    align: Align
    logit_scale: float

    def train(self, mode: bool = True) -> "FrozenTail":
        """Stay in evaluation mode: nothing here is trained, whatever mode the network around it has."""
        return super().train(False)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        """Of the weights."""
        return next(self.parameters()).dtype


class Trunk(nn.Module):
    """Blocks below `cut`: float32 images [B, 3, height, width] -> tokens_BTW entering block `cut`."""

    def __init__(self, clip_model: Any, cut: int) -> None:
        super().__init__()
        vit = vision_tower(clip_model, cut)
        self.visual: nn.Module = clip_model.visual
        self.stem = vit.stem
        self.blocks: Any = nn.ModuleList(vit.blocks[:cut])
        self.token_shape = (vit.prefix + vit.grid_size[0] * vit.grid_size[1], vit.width)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return run_blocks(self.blocks, self.stem(images))


class Tail(FrozenTail):
    """Blocks from `cut` on, and the head: the weights of `clip_model` itself, frozen here.

    `align` chooses how the last block makes the aligned patch features: `plain` attention, `csa` (correlative
    self-attention, SCLIP, arXiv 2312.01597), `qk_kk` (half plain, half correlative: a choice of ours) or
    `value` (each token's own value, MaskCLIP, arXiv 2112.01071). Each patch then goes through the head alone.
    """

    def __init__(self, clip_model: Any, cut: int, align: Align) -> None:
        super().__init__()
        vit = vision_tower(clip_model, cut)
        # mypy takes the items of a ModuleList for any modules.
        self.blocks: Any = nn.ModuleList(vit.blocks[cut:])
        self.head: Head = vit.head
        self.logit_scale = logit_scale_of(clip_model)
        self.prefix = vit.prefix
        self.width, self.joint_width = vit.width, vit.head.joint_width
        self.grid_size, self.patch_size = vit.grid_size, vit.patch_size
        self.align = align
        self.requires_grad_(False).eval()

    def forward(self, tokens_BTW: torch.Tensor) -> TailOutput:
        """From the cache (float16 or float32) to the three outputs, in the precision of the weights."""
        before_BTW = self._before_last(tokens_BTW)
        last_BTW = run_block(self.blocks[-1], before_BTW)
        aligned_BTW = (
            last_BTW if self.align == "plain" else run_block(self.blocks[-1], before_BTW, self.align)
        )
        return self.outputs(last_BTW, aligned_BTW)

    def outputs(self, last_BTW: torch.Tensor, aligned_BTW: torch.Tensor) -> TailOutput:
        """From the tokens after the last block, and after the last block run as `align` says."""
        align_BGE = self.head.place(self.patches(aligned_BTW))
        return TailOutput(self.patches(last_BTW), self.head.embed(last_BTW), align_BGE)

    def aligned(self, tokens_BTW: torch.Tensor) -> torch.Tensor:
        """Only `align_BGE`: the last block runs once."""
        last_BTW = run_block(self.blocks[-1], self._before_last(tokens_BTW), self.align)
        return self.head.place(self.patches(last_BTW))

    def last_keys(self, tokens_BTW: torch.Tensor) -> torch.Tensor:
        """Keys of the patches in the last block, heads concatenated: [B, G, W]."""
        _, key_BTW, _ = self.blocks[-1].query_key_value(self._before_last(tokens_BTW))
        return self.patches(key_BTW)

    def patches(self, x_BTW: torch.Tensor) -> torch.Tensor:
        """Without the leading tokens: [B, G, W]."""
        return x_BTW[:, self.prefix :]

    def _before_last(self, tokens_BTW: torch.Tensor) -> torch.Tensor:
        return run_blocks(self.blocks[:-1], tokens_BTW.to(self.dtype))


def see_by_blocks(clip_model: Any, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The embedding of each image and its patches in the joint space, from all blocks, with gradients."""
    vit = vision_tower(clip_model, cut=0)
    return vit.head.embed_and_place(run_blocks(vit.blocks, vit.stem(images)), vit.prefix)


def vision_tower(clip_model: Any, cut: int) -> Vit:
    """The model's vision transformer in parts, if it can be cut at block `cut`.

    Raises:
        UserError: it is of another kind, or has no block after the cut.
    """
    name = tower_name(clip_model)
    if name not in VITS:
        raise UserError(
            f"clip.model has the vision tower {name}, which is no transformer of {', '.join(VITS)}"
        )
    vit = VITS[name](clip_model.visual)
    if not 0 <= cut < len(vit.blocks):
        raise UserError(
            f"clip.cut {cut} leaves no block to the tail of a model with {len(vit.blocks)} blocks; "
            f"use 0 to {len(vit.blocks) - 1}"
        )
    return vit


def tower_name(clip_model: Any) -> str:
    """The library and the class of the vision tower: `timm.ConvNeXt`."""
    inner = type(getattr(clip_model.visual, "trunk", clip_model.visual))
    return f"{inner.__module__.partition('.')[0]}.{inner.__name__}"
