"""Cross-modal encoder: patches attend to the text of their concepts (FSGR, IEEE TCSVT 2025).

Shapes: B images, G patches, O distances between two of them, F features of a distance, D d_model, W vision
width, E joint width, H heads.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fsgr_model.config.model_params import ResidualKind
from fsgr_model.kernels.drop_ins import product_of
from fsgr_model.network.attention import FeedForward, MultiHeadAttention
from fsgr_model.network.positions import grid_distances, grid_geometry, sine_positions_2d
from fsgr_model.network.residual import around_attention, around_feed_forward, final_norm

# By how much a patch's own position starts above the mean of all, before ReLU and logarithm. At first a patch
# reads little but its own concept from the text grid; of the patches it reads about a fifth beside itself.
TEXT_LEAD, PATCH_LEAD = 4.0, 2.0
# Replaces the zeros of ReLU. With RSTNet's 1e-6, a head that sees one position would have a gradient of its
# queries and keys that is lost in rounding; so blocked positions keep a few per cent of the attention.
LEAST = 1e-3


class Embed(nn.Sequential):
    """Linear, CELU(1.3), dropout, LayerNorm: how a CLIP feature enters the network."""

    def __init__(self, linear: nn.Linear, dropout: float) -> None:
        super().__init__(linear, nn.CELU(alpha=1.3), nn.Dropout(dropout), nn.LayerNorm(linear.out_features))


class BesideEachPatch(nn.Linear):
    """A linear layer on every patch joined with the image embedding, which is multiplied only once."""

    def __init__(self, vision_width: int, *, joint_width: int, d_model: int) -> None:
        super().__init__(vision_width + joint_width, d_model)
        self.widths = [vision_width, joint_width]

    def forward(self, grid_and_global: tuple[Tensor, Tensor]) -> Tensor:  # type: ignore[override]
        """[B, G, W] and [B, E] -> [B, G, D]"""
        grid_BGW, global_BE = grid_and_global
        grid_DW, global_DE = self.weight.split(self.widths, dim=1)
        product = product_of(self)
        return product(grid_BGW, grid_DW) + product(global_BE, global_DE, self.bias)[:, None]


class GeometryBias(nn.Module):
    """log ReLU(linear(relative geometry)): one additive bias per head and pair of cells
    (arXiv 1711.11575, eq. 5 and 3). The geometry is that of the grid, the same for every image, and is
    computed once, for every distance instead of every pair; every layer has its own linear map (a choice:
    RSTNet shares one).
    """

    geometry_OF: Tensor
    distance_GG: Tensor

    def __init__(self, side: int, *, num_heads: int) -> None:
        super().__init__()
        self.register_buffer("geometry_OF", grid_geometry(side), persistent=False)
        self.register_buffer("distance_GG", grid_distances(side), persistent=False)
        self.weight = nn.Linear(64, num_heads)

    @torch.no_grad()
    def initialise_at_own_patch(self, lead: float) -> None:
        """Let every head first see a patch's own position (bias 0) and a few others, which stay random.

        A choice: random weights alone hide it from half of the heads, and ReLU gives a blocked position no
        gradient, so whether a patch ever reads its own concept would depend on the seed
        (docs/experiments/ablation.md).
        """
        own_F = self.geometry_OF[0]
        away_F = own_F - self.geometry_OF[self.distance_GG.flatten()].mean(dim=0)
        self.weight.weight += lead * away_F / away_F.square().sum()
        self.weight.bias.copy_(1 - self.weight.weight @ own_F)

    def forward(self) -> Tensor:
        """[H, G, G]"""
        bias_HO = self.weight(self.geometry_OF).clamp(min=LEAST).log().T
        return bias_HO.index_select(1, self.distance_GG.flatten()).unflatten(1, self.distance_GG.shape)


class GridAttention(nn.Module):
    """Every patch attends to the text grids, or to all patches; positions enter queries and keys only."""

    def __init__(
        self, d_model: int, *, num_heads: int, dropout: nn.Dropout, side: int, residual: ResidualKind
    ) -> None:
        super().__init__()
        self.attention = MultiHeadAttention(d_model, num_heads)
        self.geometry = GeometryBias(side, num_heads=num_heads)
        self.residual = around_attention(residual, d_model, dropout)

    def forward(self, visual_BGD: Tensor, position_GD: Tensor, text_BGD: Tensor | None = None) -> Tensor:
        read_BGD = self.residual.before(visual_BGD)
        query_BGD = read_BGD + position_GD
        if text_BGD is None:
            keys, values = self.attention.keys_values(query_BGD, read_BGD)
        else:
            keys, values = self.attention.keys_values(text_BGD + position_GD, text_BGD)
        mixed_BGD = self.attention(query_BGD, keys, values, bias=self.geometry().to(keys.dtype))
        return self.residual.after(visual_BGD, query_BGD, mixed_BGD)


class EncoderLayer(nn.Module):
    """Patches attend to the text grids, then a feed-forward layer.

    That patches first attend to each other is not part of FSGR. It is a choice for a small CLIP: the encoder
    can learn to recognise what the frozen tail does not. Without semantics it is the only attention.
    """

    def __init__(
        self,
        d_model: int,
        *,
        num_heads: int,
        d_ff: int,
        dropout: float,
        side: int,
        patch_attention: bool,
        semantics: bool,
        residual: ResidualKind,
    ) -> None:
        super().__init__()
        drop = nn.Dropout(dropout)

        def attention() -> GridAttention:
            return GridAttention(d_model, num_heads=num_heads, dropout=drop, side=side, residual=residual)

        self.patch_attention = attention() if patch_attention or not semantics else None
        self.text_attention = attention() if semantics else None
        self.feed_forward = FeedForward(d_model, d_ff, dropout)
        self.feed_forward_residual = around_feed_forward(residual, d_model, drop)

    def forward(self, visual_BGD: Tensor, text_BGD: Tensor | None, position_GD: Tensor) -> Tensor:
        if self.patch_attention is not None:
            visual_BGD = self.patch_attention(visual_BGD, position_GD)
        if self.text_attention is not None:
            visual_BGD = self.text_attention(visual_BGD, position_GD, text_BGD)
        read_BGD = self.feed_forward_residual.before(visual_BGD)
        return self.feed_forward_residual.after(visual_BGD, read_BGD, self.feed_forward(read_BGD))


class CrossModalEncoder(nn.Module):
    """Embeds patches (`embed`), which then attend to the text grids, layer by layer (`forward`).

    Keys and values are the same text grids in every layer; the running visual feature is the query.
    Without semantics it is a plain transformer on the same embedded patches (a choice: the reference copy
    then drops the image embedding too, and so compares two things at once).
    """

    position_GD: Tensor

    def __init__(
        self,
        vision_width: int,
        *,
        joint_width: int,
        side: int,
        d_model: int,
        num_heads: int,
        d_ff: int,
        num_layers: int,
        dropout: float,
        patch_attention: bool,
        semantics: bool = True,
        residual: ResidualKind = "post",
    ) -> None:
        super().__init__()
        self.visual_embed = Embed(
            BesideEachPatch(vision_width, joint_width=joint_width, d_model=d_model), dropout
        )
        self.text_embed = Embed(nn.Linear(joint_width, d_model), dropout) if semantics else None
        self.shared_norm = nn.LayerNorm(d_model)
        self.layers = nn.ModuleList(
            EncoderLayer(
                d_model,
                num_heads=num_heads,
                d_ff=d_ff,
                dropout=dropout,
                side=side,
                patch_attention=patch_attention,
                semantics=semantics,
                residual=residual,
            )
            for _ in range(num_layers)
        )
        self.last_norm = final_norm(residual, d_model)
        self.register_buffer("position_GD", sine_positions_2d(side, d_model), persistent=False)

    def initialise_at_own_patch(self) -> None:
        """Initialise the geometry of all layers; see `GeometryBias`."""
        for layer in self.layers:
            assert isinstance(layer, EncoderLayer)
            if layer.patch_attention is not None:
                layer.patch_attention.geometry.initialise_at_own_patch(PATCH_LEAD)
            if layer.text_attention is not None:
                layer.text_attention.geometry.initialise_at_own_patch(TEXT_LEAD)

    def embed(self, grid_BGW: Tensor, global_BE: Tensor) -> Tensor:
        """Embed the patches of an image, before any text.

        Args:
            grid_BGW: patches after the last block of CLIP; normalised here.
            global_BE: the image embedding; unit rows.

        Returns:
            visual_BGD
        """
        return self.visual_embed((F.normalize(grid_BGW, dim=-1), global_BE))

    def forward(self, visual_BGD: Tensor, text_BGE: Tensor | None) -> Tensor:
        """Encode an image from its embedded patches and the concept embedding of every patch.

        Args:
            visual_BGD: what `embed` made.
            text_BGE: None exactly if there are no semantics.

        Returns:
            [B, G, D]
        """
        visual_BGD = self.shared_norm(visual_BGD)
        text_BGD = None if self.text_embed is None else self.shared_norm(self.text_embed(text_BGE))
        for layer in self.layers:
            visual_BGD = layer(visual_BGD, text_BGD, self.position_GD)
        return self.last_norm(visual_BGD)
