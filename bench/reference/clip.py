"""CLIP with adapters and prompts run whole, from the pixels, at every step: part of the reference.

Prompts stand in every block and go through all of it, as VPT (arXiv 2203.12119) is usually written, so
gradients flow through every block; adapters stand in the last blocks.

Shapes: B images, T tokens = 1 CLS + G patches, P prompts per block, W vision width.
"""

from typing import Any

import torch
from torch import Tensor, nn

from fsgr_model.clip.split import Tail, TailOutput
from fsgr_model.clip.vit import Block, run_block
from fsgr_model.network.tuned_tail import Adapter, LatePrompts


class WholeClip(nn.Module):
    """Takes float32 images [B, 3, height, width] where a tail takes cached tokens."""

    def __init__(self, clip_model: Any, *, cut: int, prompts: int, dropout: float) -> None:
        super().__init__()
        self.visual = clip_model.visual
        self.frozen = Tail(clip_model, 0, "csa")
        clip_model.requires_grad_(False)
        self.width, self.joint_width = self.frozen.width, self.frozen.joint_width
        self.logit_scale = self.frozen.logit_scale
        blocks, width = len(self.frozen.blocks), self.width
        self.adapters = {number: Adapter(width) for number in range(cut, blocks)}
        self.adapters_in_order = nn.ModuleList(self.adapters.values())
        self.prompts = LatePrompts(
            blocks, prompts=prompts, width=width, patch_size=self.frozen.patch_size, dropout=dropout
        )

    def forward(self, images: Tensor) -> TailOutput:
        tokens_BTW = self.visual._embeds(images)
        last = len(self.frozen.blocks) - 1
        for number in range(last):
            tokens_BTW = self._block(number, tokens_BTW)
        aligned_BTW = run_block(self.frozen.blocks[last], tokens_BTW, "csa", self.adapters[last])
        return self.frozen.outputs(self._block(last, tokens_BTW), aligned_BTW)

    def _block(self, number: int, tokens_BTW: Tensor) -> Tensor:
        return prompted_block(
            self.frozen.blocks[number], self.prompts, number, tokens_BTW, adapter=self.adapters.get(number)
        )


def prompted_block(
    block: Block, prompts: LatePrompts, number: int, tokens_BTW: Tensor, *, adapter: nn.Module | None
) -> Tensor:
    """A whole block over CLS, prompts and patches; what it made of the prompts is dropped."""
    prompt_BPW = prompts(number, len(tokens_BTW)).to(tokens_BTW.dtype)
    longer = torch.cat([tokens_BTW[:, :1], prompt_BPW, tokens_BTW[:, 1:]], dim=1)
    made = run_block(block, longer, adapter=adapter)
    return torch.cat([made[:, :1], made[:, 1 + prompt_BPW.shape[1] :]], dim=1)
