"""Positions of words and patches: sine tables, and the geometry of the patch grid.

Shapes: L positions, G = side * side patches in row order, O distances between two of them, D d_model.
"""

import math

import torch
from torch import Tensor


def sine_positions(length: int, d_model: int) -> Tensor:
    """Sine and cosine table of positions 0 to length - 1 (arXiv 1706.03762, section 3.5), [L, D] float32."""
    frequency = torch.exp(torch.arange(0, d_model, 2) * (-math.log(10_000.0) / d_model))
    angle = torch.arange(length)[:, None] * frequency
    return torch.stack([angle.sin(), angle.cos()], dim=-1).flatten(1)


def sine_positions_2d(side: int, d_model: int) -> Tensor:
    """Rows and columns of a square grid, half of the width each, normalised to 2 pi
    (DETR, arXiv 2005.12872, appendix A.4).

    Returns:
        [G, D] float32.
    """
    half = d_model // 2
    frequency = 10_000.0 ** (-2 * (torch.arange(half) // 2) / half)
    angle = (torch.arange(1, side + 1) / side * 2 * math.pi)[:, None] * frequency
    line = torch.stack([angle[:, 0::2].sin(), angle[:, 1::2].cos()], dim=-1).flatten(1)
    rows = line[:, None].expand(side, side, half)
    columns = line[None, :].expand(side, side, half)
    return torch.cat([rows, columns], dim=-1).flatten(0, 1)


def grid_distances(side: int) -> Tensor:
    """The distance of every two grid cells, one of the O = side * side distances, rows * side + columns.

    Returns:
        [G, G] int64.
    """
    row_G, column_G = torch.arange(side * side) // side, torch.arange(side * side) % side
    rows_GG, columns_GG = ((x[:, None] - x).abs() for x in (row_G, column_G))
    return rows_GG * side + columns_GG


def grid_geometry(side: int) -> Tensor:
    """Relative geometry of two grid cells by the distance between them (Hu et al. 2018, arXiv 1711.11575,
    eq. 5; grid form of RSTNet, Zhang et al. CVPR 2021).

    log distances in x and y in units of a cell, clamped at 1e-3, and the log ratios of width and height
    (zero on a regular grid), times 100, each as sine and cosine of 8 frequencies with base 1000.

    Returns:
        [O, 64] float32, in the order of `grid_distances`.
    """
    size = 1.0 / side + 1.0
    log_distance = (torch.arange(side) / side / size).clamp(min=1e-3).log()
    log_dy, log_dx = torch.cartesian_prod(log_distance, log_distance).unbind(dim=1)
    zero = torch.zeros_like(log_dx)
    relation = torch.stack([log_dx, log_dy, zero, zero], dim=-1)
    frequency = 1000.0 ** (-torch.arange(8) / 8)
    angle = (100.0 * relation[..., None] * frequency).flatten(-2)
    return torch.cat([angle.sin(), angle.cos()], dim=-1)
