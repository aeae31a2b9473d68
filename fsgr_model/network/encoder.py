"""Cross-modal encoder: patches ask the words of their concepts (FSGR, IEEE TCSVT 2025).

Shapes: B images, G patches, D d_model, W vision width, E joint width, H heads.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fsgr_model.network.attention import FeedForward, MultiHeadAttention
from fsgr_model.network.dropout import Dropout
from fsgr_model.network.positions import grid_geometry, sine_positions_2d


class Embed(nn.Sequential):
    """Linear, CELU(1.3), dropout, LayerNorm: how a CLIP feature enters the network."""

    def __init__(self, width: int, d_model: int, dropout: float) -> None:
        super().__init__(
            nn.Linear(width, d_model), nn.CELU(alpha=1.3), Dropout(dropout), nn.LayerNorm(d_model)
        )


class GeometryBias(nn.Module):
    """log ReLU(linear(relative geometry)): one additive bias a head and pair of cells
    (arXiv 1711.11575, eq. 5 and 3). The geometry is that of the grid, the same for every image.
    """

    geometry_GGF: Tensor

    def __init__(self, side: int, num_heads: int) -> None:
        super().__init__()
        self.register_buffer("geometry_GGF", grid_geometry(side), persistent=False)
        self.weight = nn.Linear(64, num_heads)

    def forward(self) -> Tensor:
        """[H, G, G]"""
        return self.weight(self.geometry_GGF).relu().clamp(min=1e-6).log().permute(2, 0, 1)


class PatchAttention(nn.Module):
    """Patches attend to each other; post-norm. Not part of FSGR, whose patches only ask the text grids.

    A choice for a small CLIP: what its frozen tail does not recognise, the encoder can still learn to.
    """

    def __init__(self, d_model: int, num_heads: int, dropout: float, side: int) -> None:
        super().__init__()
        self.attention = MultiHeadAttention(d_model, num_heads)
        self.geometry = GeometryBias(side, num_heads)
        self.norm = nn.LayerNorm(d_model)
        self.dropout = Dropout(dropout)

    def forward(self, visual_BGD: Tensor, position_GD: Tensor) -> Tensor:
        placed_BGD = visual_BGD + position_GD
        keys, values = self.attention.keys_values(placed_BGD, visual_BGD)
        mixed_BGD = self.attention(placed_BGD, keys, values, bias=self.geometry().to(keys.dtype))
        return self.norm(visual_BGD + self.dropout(mixed_BGD))


class EncoderLayer(nn.Module):
    """Patches attend to the text grids, then a feed-forward layer; post-norm."""

    def __init__(
        self, d_model: int, num_heads: int, d_ff: int, dropout: float, side: int, patch_attention: bool
    ) -> None:
        super().__init__()
        self.patch_attention = PatchAttention(d_model, num_heads, dropout, side) if patch_attention else None
        self.attention = MultiHeadAttention(d_model, num_heads)
        self.geometry = GeometryBias(side, num_heads)
        self.attention_norm = nn.LayerNorm(d_model)
        self.feed_forward = FeedForward(d_model, d_ff, dropout)
        self.feed_forward_norm = nn.LayerNorm(d_model)
        self.dropout = Dropout(dropout)

    def forward(self, visual_BGD: Tensor, text_BGD: Tensor, position_GD: Tensor) -> Tensor:
        """Positions enter queries and keys, never values."""
        if self.patch_attention is not None:
            visual_BGD = self.patch_attention(visual_BGD, position_GD)
        keys, values = self.attention.keys_values(text_BGD + position_GD, text_BGD)
        bias_HGG = self.geometry().to(keys.dtype)
        mixed_BGD = self.attention(visual_BGD + position_GD, keys, values, bias=bias_HGG)
        visual_BGD = self.attention_norm(visual_BGD + self.dropout(mixed_BGD))
        return self.feed_forward_norm(visual_BGD + self.dropout(self.feed_forward(visual_BGD)))


class CrossModalEncoder(nn.Module):
    """Embeds patches (`embed`), then lets them ask the text grids, layer by layer (`forward`).

    Keys and values are the same text grids in every layer; the running visual feature is the query.
    """

    position_GD: Tensor

    def __init__(
        self,
        vision_width: int,
        joint_width: int,
        side: int,
        d_model: int,
        num_heads: int,
        d_ff: int,
        num_layers: int,
        dropout: float,
        patch_attention: bool,
    ) -> None:
        super().__init__()
        self.visual_embed = Embed(vision_width + joint_width, d_model, dropout)
        self.text_embed = Embed(joint_width, d_model, dropout)
        self.shared_norm = nn.LayerNorm(d_model)
        self.layers = nn.ModuleList(
            EncoderLayer(d_model, num_heads, d_ff, dropout, side, patch_attention) for _ in range(num_layers)
        )
        self.register_buffer("position_GD", sine_positions_2d(side, d_model), persistent=False)

    def embed(self, grid_BGW: Tensor, global_BE: Tensor) -> Tensor:
        """Embed the patches of an image, before any text.

        Args:
            grid_BGW: patches after the last block of CLIP; normalised here.
            global_BE: the image embedding; unit rows.

        Returns:
            visual_BGD
        """
        grid_BGW = F.normalize(grid_BGW, dim=-1)
        global_BGE = global_BE[:, None].expand(-1, grid_BGW.shape[1], -1)
        return self.visual_embed(torch.cat([grid_BGW, global_BGE], dim=-1))

    def forward(self, visual_BGD: Tensor, text_BGE: Tensor) -> Tensor:
        """Encode an image from its embedded patches and the concept embedding of every patch.

        Returns:
            [B, G, D]
        """
        visual_BGD = self.shared_norm(visual_BGD)
        text_BGD = self.shared_norm(self.text_embed(text_BGE))
        for layer in self.layers:
            visual_BGD = layer(visual_BGD, text_BGD, self.position_GD)
        return visual_BGD
