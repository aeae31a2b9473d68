"""The encoder's geometry and positions against formulas written out by hand."""

import itertools
import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from fsgr_model.network import encoder as encoder_module
from fsgr_model.network.attention import MultiHeadAttention
from fsgr_model.network.encoder import CrossModalEncoder, GeometryBias, GridAttention
from fsgr_model.network.positions import grid_distances, grid_geometry, sine_positions, sine_positions_2d


def test_sine_positions_by_hand():
    table_LD = sine_positions(5, 8)
    for position in range(5):
        for pair in range(4):
            angle = position / 10_000 ** (2 * pair / 8)
            assert math.isclose(table_LD[position, 2 * pair], math.sin(angle), abs_tol=1e-6)
            assert math.isclose(table_LD[position, 2 * pair + 1], math.cos(angle), abs_tol=1e-6)


def test_2d_positions_tell_every_patch_apart():
    table_GD = sine_positions_2d(14, 64)
    distance_GG = torch.cdist(table_GD, table_GD) + torch.eye(196)
    assert distance_GG.min() > 0.05
    # The first half is the row, the second the column.
    assert torch.equal(table_GD[0, :32], table_GD[13, :32])
    assert torch.equal(table_GD[0, 32:], table_GD[13 * 14, 32:])


def test_2d_positions_by_hand():
    side, d_model = 3, 16
    table_GD = sine_positions_2d(side, d_model)
    for row, column, i in itertools.product(range(side), range(side), range(4)):
        for place, offset in ((row, 0), (column, 8)):
            angle = (place + 1) / side * 2 * math.pi / 10_000 ** (2 * i / 8)
            sine, cosine = table_GD[row * side + column, offset + 2 * i : offset + 2 * i + 2].tolist()
            assert math.isclose(sine, math.sin(angle), abs_tol=1e-5)
            assert math.isclose(cosine, math.cos(angle), abs_tol=1e-5)


def geometry_by_hand(side: int, a: int, b: int) -> list[float]:
    size = 1 / side + 1
    (row_a, column_a), (row_b, column_b) = divmod(a, side), divmod(b, side)
    log_dx = math.log(max(abs(column_a - column_b) / side / size, 1e-3))
    log_dy = math.log(max(abs(row_a - row_b) / side / size, 1e-3))
    angles = [100 * relation / 1000 ** (k / 8) for relation in (log_dx, log_dy, 0, 0) for k in range(8)]
    return [math.sin(angle) for angle in angles] + [math.cos(angle) for angle in angles]


def test_geometry_of_every_pair_by_hand():
    side = 4
    geometry_GGF = grid_geometry(side)[grid_distances(side)]
    for a, b in itertools.product(range(side * side), repeat=2):
        expected = torch.tensor(geometry_by_hand(side, a, b))
        # Angles go up to 690: float32 keeps them to 6e-5.
        torch.testing.assert_close(geometry_GGF[a, b], expected, atol=5e-4, rtol=0)


def test_every_head_sees_its_own_patch_at_first():
    """Whatever is drawn: bias 0 there, and at more than half of all places the least that there is."""
    for seed in range(20):
        torch.manual_seed(seed)
        geometry = GeometryBias(8, num_heads=4)
        torch.nn.init.xavier_uniform_(geometry.weight.weight)
        geometry.initialise_at_own_patch(lead=2.0)
        bias_HGG = geometry()
        own_HG = bias_HGG.diagonal(dim1=1, dim2=2)
        torch.testing.assert_close(own_HG, torch.zeros(4, 64), atol=1e-4, rtol=0)
        assert (bias_HGG < math.log(1.001e-3)).float().mean() > 0.5


def test_attention_of_a_patch_by_hand():
    """softmax(q k / sqrt(C) + log max(w geometry, 1e-3)), positions in queries and keys only."""
    torch.manual_seed(0)
    side, d_model, heads = 2, 8, 2
    G, C = side * side, d_model // heads
    layer = GridAttention(d_model, num_heads=heads, dropout=nn.Dropout(0.0), side=side, residual="post")
    visual, text, position = torch.randn(1, G, d_model), torch.randn(1, G, d_model), torch.randn(G, d_model)
    query = layer.attention.query(visual + position)[0]
    key, value = layer.attention.key(text + position)[0], layer.attention.value(text)[0]
    mixed = torch.zeros(G, d_model)
    for a, head in itertools.product(range(G), range(heads)):
        part = slice(head * C, head * C + C)
        logits = []
        for b in range(G):
            embedding = torch.tensor(geometry_by_hand(side, a, b))
            bias = max(
                (layer.geometry.weight.weight[head] @ embedding + layer.geometry.weight.bias[head]).item(),
                1e-3,
            )
            logits.append((query[a, part] @ key[b, part]).item() / C**0.5 + math.log(bias))
        mixed[a, part] = torch.tensor(logits).softmax(0) @ value[:, part]
    expected = F.layer_norm(visual[0] + layer.attention.out(mixed), (d_model,))
    torch.testing.assert_close(layer(visual, position, text)[0], expected, atol=2e-3, rtol=0)


def test_a_trained_bias_gives_what_a_fixed_one_does():
    """PyTorch's own attention is the reference, also of the gradients; it takes the bias as a constant."""
    torch.manual_seed(0)
    attention = MultiHeadAttention(16, 4)
    query, key, value = (torch.randn(2, G, 16, requires_grad=True) for G in (5, 7, 7))
    bias, grad = torch.randn(4, 5, 7), torch.randn(2, 5, 16)
    found = []
    for given in (bias, bias.clone().requires_grad_()):
        output = attention(query, *attention.keys_values(key, value), bias=given)
        inputs = [query, key, value, *attention.parameters()]
        found.append([output, *torch.autograd.grad(output, inputs, grad)])
    for fixed, trained in zip(*found, strict=True):
        torch.testing.assert_close(trained, fixed, atol=1e-5, rtol=1e-4)
    for head, row, column in [(0, 0, 0), (3, 4, 6)]:
        moved = bias.clone().requires_grad_()
        output = attention(query, *attention.keys_values(key, value), bias=moved)
        slope = torch.autograd.grad(output, moved, grad)[0][head, row, column]
        outputs = []
        for step in (-1e-2, 1e-2):
            nearby = bias.clone()
            nearby[head, row, column] += step
            outputs.append((attention(query, *attention.keys_values(key, value), bias=nearby) * grad).sum())
        assert slope.item() == pytest.approx(((outputs[1] - outputs[0]) / 2e-2).item(), rel=0.02, abs=1e-3)


def test_geometry_is_computed_once_and_no_part_of_a_checkpoint(monkeypatch):
    computed = []
    monkeypatch.setattr(
        encoder_module, "grid_geometry", lambda side: computed.append(side) or grid_geometry(side)
    )
    bias = GeometryBias(3, num_heads=2)
    torch.testing.assert_close(bias(), bias())
    assert computed == [3]
    assert set(bias.state_dict()) == {"weight.weight", "weight.bias"}


def small_encoder(**changes: Any) -> CrossModalEncoder:
    """On a grid of 3 x 3 patches of width 12."""
    sizes = {"joint_width": 8, "side": 3, "d_model": 16, "num_heads": 4, "d_ff": 32, "num_layers": 2}
    return CrossModalEncoder(12, **sizes | {"dropout": 0.1} | changes)


@pytest.mark.parametrize("semantics", [True, False])
@pytest.mark.parametrize("residual", ["post", "double", "pre"])
@pytest.mark.parametrize("patches", [True, False])
def test_images_of_a_batch_do_not_mix(patches, residual, semantics):
    torch.manual_seed(0)
    encoder = small_encoder(patch_attention=patches, semantics=semantics, residual=residual)
    encoder.eval()
    grid, whole, text = torch.randn(4, 9, 12), torch.randn(4, 8), torch.randn(4, 9, 8)
    order = torch.tensor([2, 0, 3, 1])
    given = text if semantics else None
    encoded = encoder(encoder.embed(grid, whole), given)
    shuffled = encoder(encoder.embed(grid[order], whole[order]), given[order] if semantics else None)
    torch.testing.assert_close(shuffled, encoded[order])


def test_without_semantics_it_is_a_plain_transformer_on_the_patches():
    """Layers with patch attention less their attention to text, whatever `patch_attention` says."""
    torch.manual_seed(0)
    plain = small_encoder(patch_attention=False, semantics=False)
    full = small_encoder(patch_attention=True)
    names = {name for name in full.state_dict() if "text_" not in name}
    assert set(plain.state_dict()) == names
    assert set(small_encoder(patch_attention=True, semantics=False).state_dict()) == names
    plain.eval()
    grid, whole = torch.randn(2, 9, 12), torch.randn(2, 8)
    encoded = plain(plain.embed(grid, whole), None)
    grid[0, 4] += 1
    # Every patch sees the one that changed, and only those of its image do.
    moved = (plain(plain.embed(grid, whole), None) - encoded).abs().amax(dim=-1)
    assert (moved[0] > 1e-5).all() and (moved[1] == 0).all()


def test_text_grids_matter():
    torch.manual_seed(0)
    encoder = small_encoder(num_layers=1, dropout=0.0, patch_attention=False)
    grid, whole, text = torch.randn(1, 9, 12), torch.randn(1, 8), torch.randn(1, 9, 8)
    visual = encoder.embed(grid, whole)
    assert not torch.allclose(encoder(visual, text), encoder(visual, -text), atol=1e-2)
