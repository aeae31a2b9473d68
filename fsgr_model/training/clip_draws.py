"""The random numbers of a CLIP in training, drawn by image where processes share batches.

Shapes: B images, T tokens, G patches.
"""

from typing import Any

import torch
from torch import Tensor, nn

from fsgr_model.clip.open_clip_api import open_clip
from fsgr_model.runtime.errors import UserError
from fsgr_model.training.image_draws import ImageDraws, draw_by_image

OF_OPEN_CLIP: Any = open_clip.transformer.PatchDropout
# Layers of timm that draw by the place in the batch.
BY_PLACE = ("DropPath", "PatchDropout", "PatchDropoutWithIndices")


class ImagePatchDropout(nn.Module):
    """Keeps as many random patches of each image as open_clip's (arXiv 2212.00794), chosen by image."""

    def __init__(self, given: Any, draws: ImageDraws) -> None:
        super().__init__()
        self.prob: float = given.prob
        self.exclude_first_token: bool = given.exclude_first_token
        self.draws = draws
        self.train(given.training)

    def forward(self, x: Tensor) -> Tensor:
        """[B, T, W]: a leading class token stays."""
        if not self.training or self.prob == 0:
            return x
        first = int(self.exclude_first_token)
        patches = x.shape[1] - first
        kept = max(1, int(patches * (1 - self.prob)))
        chosen_BK = self.draws.uniform(patches).topk(kept, dim=-1).indices + first
        picked = x.gather(1, chosen_BK[..., None].expand(-1, -1, x.shape[-1]))
        return torch.cat((x[:, :first], picked), dim=1)


def draw_clip_by_image(clip_model: nn.Module) -> ImageDraws:
    """Make every random layer of a CLIP draw by image; the caller begins each step of the result.

    Raises:
        UserError: it has layers of timm that draw otherwise.
    """
    for name, layer in clip_model.named_modules():
        chance = max(getattr(layer, key, 0.0) or 0.0 for key in ("drop_prob", "prob"))
        if type(layer).__name__ in BY_PLACE and not isinstance(layer, OF_OPEN_CLIP) and chance > 0:
            raise UserError(
                f"clip.model has the random layer {name} ({type(layer).__name__} {chance:g}) of timm, which "
                "several processes would draw otherwise than one; set runtime.processes: 1, or leave its "
                "timm_drop_path and timm_patch_drop out"
            )
    draws = draw_by_image(clip_model)
    for module in list(clip_model.modules()):
        for name, layer in module.named_children():
            if type(layer) is OF_OPEN_CLIP:
                setattr(module, name, ImagePatchDropout(layer, draws))
    return draws
