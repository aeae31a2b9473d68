"""The encoder's geometry and positions against formulas written out by hand."""

import math

import pytest
import torch

from fsgr_model.network.encoder import CrossModalEncoder
from fsgr_model.network.positions import grid_geometry, sine_positions, sine_positions_2d


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


def test_geometry_of_one_pair_by_hand():
    side = 4
    geometry_GGF = grid_geometry(side)
    a, b = 1, 2 * side + 3  # row 0 column 1; row 2 column 3
    size = 1 / side + 1
    log_dx = math.log((2 / side) / size)
    angles = [100 * relation / 1000 ** (k / 8) for relation in (log_dx, log_dx, 0, 0) for k in range(8)]
    expected = [math.sin(angle) for angle in angles] + [math.cos(angle) for angle in angles]
    torch.testing.assert_close(geometry_GGF[a, b], torch.tensor(expected), atol=1e-3, rtol=0)


@pytest.mark.parametrize("patches", [True, False])
def test_images_of_a_batch_do_not_mix(patches):
    torch.manual_seed(0)
    encoder = CrossModalEncoder(
        12, 8, side=3, d_model=16, num_heads=4, d_ff=32, num_layers=2, dropout=0.1, patch_attention=patches
    )
    encoder.eval()
    grid, whole, text = torch.randn(4, 9, 12), torch.randn(4, 8), torch.randn(4, 9, 8)
    order = torch.tensor([2, 0, 3, 1])
    encoded = encoder(encoder.embed(grid, whole), text)
    shuffled = encoder(encoder.embed(grid[order], whole[order]), text[order])
    torch.testing.assert_close(shuffled, encoded[order])


def test_text_grids_matter():
    torch.manual_seed(0)
    encoder = CrossModalEncoder(
        12, 8, side=3, d_model=16, num_heads=4, d_ff=32, num_layers=1, dropout=0.0, patch_attention=False
    )
    grid, whole, text = torch.randn(1, 9, 12), torch.randn(1, 8), torch.randn(1, 9, 8)
    visual = encoder.embed(grid, whole)
    assert not torch.allclose(encoder(visual, text), encoder(visual, -text), atol=1e-2)
