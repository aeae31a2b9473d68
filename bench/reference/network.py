"""A captioner as older captioning code writes it, to be timed beside ours: the reference of every ratio.

Same network, same weights (`load_from`), same numbers; only the way of computing is the older one:

- a batch row is one caption, and its image is encoded for it alone;
- attention makes its weights as a tensor, drops them out, and multiplies;
- the geometry of the grid is made again for every image of every batch;
- decoding has no keys and values to go on from: `step` keeps what every layer has read, and projects all of
  it, the image too, again at every word; `step_again` keeps the words alone, and reads them all again.

Shapes: N rows, Q queries, M keys, H heads, C width per head, G patches, L positions, D d_model, E joint
width, V words.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fsgr_model.config.model_params import ModelParams
from fsgr_model.network.captioner import Captioner
from fsgr_model.network.encoder import LEAST
from fsgr_model.network.positions import sine_positions, sine_positions_2d
from fsgr_model.network.quantiser import SemanticQuantiser


class Attention(nn.Module):
    """Multi-head attention with its weights spelled out."""

    def __init__(self, d_model: int, num_heads: int, dropout: float) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.query, self.key, self.value, self.out = (nn.Linear(d_model, d_model) for _ in range(4))
        self.dropout = nn.Dropout(dropout)

    def forward(self, query_NQD: Tensor, key_NMD: Tensor, value_NMD: Tensor, bias: Tensor | None) -> Tensor:
        (N, Q, D), M, H = query_NQD.shape, key_NMD.shape[1], self.num_heads
        query_NHQC = self.query(query_NQD).view(N, Q, H, D // H).permute(0, 2, 1, 3)
        key_NHCM = self.key(key_NMD).view(N, M, H, D // H).permute(0, 2, 3, 1)
        value_NHMC = self.value(value_NMD).view(N, M, H, D // H).permute(0, 2, 1, 3)
        logits_NHQM = torch.matmul(query_NHQC, key_NHCM) / math.sqrt(D // H)
        if bias is not None:
            logits_NHQM = logits_NHQM + bias
        weights_NHQM = self.dropout(torch.softmax(logits_NHQM, -1))
        mixed_NQD = torch.matmul(weights_NHQM, value_NHMC).permute(0, 2, 1, 3).contiguous().view(N, Q, D)
        return self.out(mixed_NQD)


class Sublayer(nn.Module):
    """LayerNorm(x + dropout(f))."""

    def __init__(self, d_model: int, dropout: float) -> None:
        super().__init__()
        self.norm, self.dropout = nn.LayerNorm(d_model), nn.Dropout(dropout)

    def forward(self, x: Tensor, output: Tensor) -> Tensor:
        return self.norm(x + self.dropout(output))


class FeedForward(nn.Module):
    """Two linear layers with a ReLU between, and the sublayer around them."""

    def __init__(self, params: ModelParams) -> None:
        super().__init__()
        self.up, self.down = nn.Linear(params.d_model, params.d_ff), nn.Linear(params.d_ff, params.d_model)
        self.dropout = nn.Dropout(params.dropout)
        self.sublayer = Sublayer(params.d_model, params.dropout)

    def forward(self, x: Tensor) -> Tensor:
        return self.sublayer(x, self.down(self.dropout(F.relu(self.up(x)))))


class EncoderLayer(nn.Module):
    """Patches ask the text grids; the logits get the logarithm of a learned map of the geometry."""

    def __init__(self, params: ModelParams) -> None:
        super().__init__()
        self.attention = Attention(params.d_model, params.num_heads, params.dropout)
        self.geometry = nn.Linear(64, params.num_heads)
        self.sublayer = Sublayer(params.d_model, params.dropout)
        self.feed_forward = FeedForward(params)

    def forward(self, x_NGD: Tensor, text_NGD: Tensor, position_GD: Tensor, geometry: Tensor) -> Tensor:
        weight_NHGG = self.geometry(geometry).permute(0, 3, 1, 2)
        bias_NHGG = torch.log(torch.clamp(weight_NHGG, min=LEAST))
        key_NGD = text_NGD + position_GD
        mixed_NGD = self.attention(x_NGD + position_GD, key_NGD, text_NGD, bias_NHGG)
        return self.feed_forward(self.sublayer(x_NGD, mixed_NGD))


class DecoderLayer(nn.Module):
    """Self-attention over what was read so far, attention to the image, feed-forward."""

    def __init__(self, params: ModelParams) -> None:
        super().__init__()
        self.self_attention = Attention(params.d_model, params.num_heads, params.dropout)
        self.self_sublayer = Sublayer(params.d_model, params.dropout)
        self.image_attention = Attention(params.d_model, params.num_heads, params.dropout)
        self.image_sublayer = Sublayer(params.d_model, params.dropout)
        self.feed_forward = FeedForward(params)

    def forward(
        self, x_NLD: Tensor, read_NMD: Tensor, keyed_NGD: Tensor, image_NGD: Tensor, mask: Tensor | None
    ) -> Tensor:
        x_NLD = self.self_sublayer(x_NLD, self.self_attention(x_NLD, read_NMD, read_NMD, mask))
        x_NLD = self.image_sublayer(x_NLD, self.image_attention(x_NLD, keyed_NGD, image_NGD, None))
        return self.feed_forward(x_NLD)


class ReferenceCaptioner(nn.Module):
    """Encoder and decoder on the outputs of CLIP's tail; FSGR's plain form only."""

    patch_position: Tensor
    word_position: Tensor

    def __init__(
        self, codebook_KE: Tensor, vision_width: int, *, side: int, num_words: int, params: ModelParams
    ) -> None:
        super().__init__()
        D, joint = params.d_model, codebook_KE.shape[1]
        self.side = side
        self.quantiser = SemanticQuantiser(codebook_KE, params.top_k, params.inverse_frequency)
        self.visual_embed, self.text_embed = (
            nn.Sequential(nn.Linear(width, D), nn.CELU(1.3), nn.Dropout(params.dropout), nn.LayerNorm(D))
            for width in (vision_width + joint, joint)
        )
        self.shared_norm = nn.LayerNorm(D)
        self.encoder = nn.ModuleList(EncoderLayer(params) for _ in range(params.encoder_layers))
        self.word_embedding = nn.Embedding(num_words, joint)
        self.word_projection = nn.Identity() if joint == D else nn.Linear(joint, D, bias=False)
        self.decoder = nn.ModuleList(DecoderLayer(params) for _ in range(params.decoder_layers))
        self.output = nn.Linear(D, num_words, bias=False)
        self.dropout = nn.Dropout(params.dropout)
        self.register_buffer("patch_position", sine_positions_2d(side, D), persistent=False)
        self.register_buffer("word_position", sine_positions(64, D), persistent=False)

    def encode(self, grid_NGW: Tensor, global_NE: Tensor, align_NGE: Tensor) -> Tensor:
        """[N, G, D]: one row per caption, so an image with five captions is encoded five times."""
        global_NE = F.normalize(global_NE, dim=-1)
        text_NGE = self.quantiser(global_NE, F.normalize(align_NGE, dim=-1)).text_BGE
        global_NGE = global_NE.unsqueeze(1).expand(-1, grid_NGW.shape[1], -1)
        x_NGD = self.visual_embed(torch.cat([F.normalize(grid_NGW, dim=-1), global_NGE], -1))
        x_NGD = self.shared_norm(x_NGD)
        text_NGD = self.shared_norm(self.text_embed(text_NGE))
        geometry = relative_geometry(len(grid_NGW), side=self.side, device=grid_NGW.device)
        for layer in self.encoder:
            x_NGD = layer(x_NGD, text_NGD, self.patch_position, geometry)
        return x_NGD

    def forward(self, image_NGD: Tensor, word_NL: Tensor) -> Tensor:
        """Log-probabilities [N, L, V] of the word after each given one."""
        return F.log_softmax(self.output(self.read(image_NGD, word_NL)).float(), -1)

    def read(self, image_NGD: Tensor, word_NL: Tensor) -> Tensor:
        """What the layers make of all words, [N, L, D]."""
        L = word_NL.shape[1]
        mask_LL = torch.triu(torch.full((L, L), -torch.inf, device=word_NL.device), 1)
        keyed_NGD = image_NGD + self.patch_position
        x_NLD = self.embed(word_NL, 0)
        for layer in self.decoder:
            x_NLD = layer(x_NLD, x_NLD, keyed_NGD, image_NGD, mask_LL)
        return x_NLD

    def step(self, word_N: Tensor, image_NGD: Tensor, history: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        """Logits [N, V] of the next word; `history`: what every layer has read so far, [N, P, D]."""
        keyed_NGD = image_NGD + self.patch_position
        x_N1D = self.embed(word_N.unsqueeze(1), history[0].shape[1] if history else 0)
        read = []
        for number, layer in enumerate(self.decoder):
            read.append(torch.cat([history[number], x_N1D], 1) if history else x_N1D)
            x_N1D = layer(x_N1D, read[-1], keyed_NGD, image_NGD, None)
        return self.output(x_N1D)[:, 0].float(), read

    def step_again(
        self, word_N: Tensor, image_NGD: Tensor, history: list[Tensor]
    ) -> tuple[Tensor, list[Tensor]]:
        """As `step`, but the history is one tensor: the words read so far, [N, P]."""
        word_NL = torch.cat([*history, word_N.unsqueeze(1)], 1)
        return self.output(self.read(image_NGD, word_NL)[:, -1]).float(), [word_NL]

    def embed(self, word_NL: Tensor, first: int) -> Tensor:
        position_LD = self.word_position[first : first + word_NL.shape[1]]
        return self.dropout(self.word_projection(self.word_embedding(word_NL)) + position_LD)


def relative_geometry(rows: int, *, side: int, device: torch.device) -> Tensor:
    """64 numbers for every pair of cells (arXiv 1711.11575, eq. 5), for each row of a batch [N, G, G, 64]."""
    cell = (torch.arange(side, device=device) + 0.5) / side
    y_G, x_G = (axis.reshape(-1) for axis in torch.meshgrid(cell, cell, indexing="ij"))
    box_NG4 = torch.stack([x_G, y_G, *(torch.full_like(x_G, 1 / side + 1) for _ in range(2))], -1)
    box_NG4 = box_NG4.unsqueeze(0).repeat(rows, 1, 1)
    x, y, width, height = torch.chunk(box_NG4, 4, dim=-1)
    delta_x = torch.log(torch.clamp(torch.abs((x - x.transpose(1, 2)) / width), min=1e-3))
    delta_y = torch.log(torch.clamp(torch.abs((y - y.transpose(1, 2)) / height), min=1e-3))
    ratios = [torch.log(size / size.transpose(1, 2)) for size in (width, height)]
    relation_NGG4 = torch.stack([delta_x, delta_y, *ratios], -1)
    frequency = 1.0 / 1000 ** (torch.arange(8, device=device) / 8)
    angle = (100.0 * relation_NGG4.unsqueeze(-1) * frequency).flatten(-2)
    return torch.cat([torch.sin(angle), torch.cos(angle)], -1)


def reference_of(
    model: Captioner, params: ModelParams, *, vision_width: int, side: int
) -> ReferenceCaptioner:
    """The reference with the weights of `model`."""
    assert model.quantiser is not None and not params.patch_attention
    assert params.residual == "post" and params.memory is None
    weights = {**model.encoder.state_dict(prefix="e."), **model.decoder.state_dict(prefix="d.")}
    num_words = model.decoder.output.out_features
    reference = ReferenceCaptioner(
        model.quantiser.codebook_KE, vision_width, side=side, num_words=num_words, params=params
    )
    renamed = {reference_name(name): weight for name, weight in weights.items()}
    reference.load_state_dict({**renamed, "quantiser.codebook_KE": model.quantiser.codebook_KE})
    return reference.to(model.quantiser.codebook_KE.device)


RENAMED = (
    ("e.layers.", "encoder."),
    ("d.layers.", "decoder."),
    ("text_attention.geometry.weight", "geometry"),
    ("text_attention.residual", "sublayer"),
    ("text_attention.attention", "attention"),
    ("self_residual", "self_sublayer"),
    ("image_residual", "image_sublayer"),
    ("feed_forward_residual", "feed_forward.sublayer"),
    ("feed_forward.0", "feed_forward.up"),
    ("feed_forward.3", "feed_forward.down"),
    ("e.", ""),
    ("d.", ""),
)


def reference_name(name: str) -> str:
    """The name of one of our weights in the reference."""
    for ours, theirs in RENAMED:
        if ours.endswith("."):
            name = theirs + name.removeprefix(ours) if name.startswith(ours) else name
        else:
            name = name.replace(ours, theirs)
    return name
