"""The network of a parameter file without weights: shapes and parameter counts, without using memory.

Shapes: T tokens of the cache, G patches, W vision width, E joint width, K concepts, V words.
"""

import math
from dataclasses import dataclass
from typing import Any

import torch

from fsgr_model.clip.model_building import build_model
from fsgr_model.clip.towers import AnyTail, AnyTrunk, make_tail, make_trunk
from fsgr_model.config.params import Params
from fsgr_model.network.captioner import Captioner
from fsgr_model.runtime.errors import UserError


@dataclass(frozen=True)
class Blueprint:
    """The network's parts on one device (`meta`: shapes only). `concepts` and `words` are K and V."""

    trunk: AnyTrunk
    tail: AnyTail
    captioner: Captioner
    clip_parameters: int
    concepts: int
    words: int

    @property
    def token_shape(self) -> tuple[int, int]:
        """(T, W), the shape of an image's tokens in the cache."""
        return self.trunk.token_shape

    @property
    def patches(self) -> int:
        """G, the positions of the grid that the captioner sees."""
        return math.prod(self.tail.grid_size)


def draw_blueprint(
    config: dict[str, Any], name: str, params: Params, concepts: int, *, words: int, device: torch.device
) -> Blueprint:
    """Build trunk, tail and captioner with meaningless weights.

    Raises:
        UserError: CLIP cannot be built or cut as asked, or the network does not fit it.
    """
    with device:
        clip = build_model(config, name).eval()
        trunk = make_trunk(clip, params.clip.cut)
        tail = make_tail(clip, params.clip.cut, params.model.align)
        if tail.grid_size[0] != tail.grid_size[1]:
            raise UserError(
                f"clip.model: the encoder needs a square grid of patches, {name} has {tail.grid_size}; "
                "choose an architecture with square images"
            )
        width = tail.joint_width
        codebook_KE = torch.randn(concepts, width) if params.model.semantics else None
        captioner = Captioner(
            tail, tail.grid_size[0], codebook_KE, torch.randn(words, width), params=params.model
        )
    count = sum(weight.numel() for weight in clip.parameters())
    return Blueprint(trunk, tail, captioner, count, concepts, words)
