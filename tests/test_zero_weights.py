"""Random weights are left out, whatever draws them, and nothing else is."""

import pytest
import torch
from torch import nn
from torch.nn import init

from fsgr_model.zero_weights import ZeroWeights

DRAWS = [
    init.uniform_,
    init.normal_,
    init.trunc_normal_,
    init.xavier_uniform_,
    init.xavier_normal_,
    init.kaiming_uniform_,
    init.kaiming_normal_,
    torch.Tensor.uniform_,
    torch.Tensor.normal_,
]


@pytest.mark.parametrize("draw", DRAWS, ids=lambda draw: draw.__name__)
def test_every_draw_gives_zeros(draw) -> None:
    weight = torch.full((6, 5), torch.nan)
    with ZeroWeights():
        assert draw(weight) is weight
    assert not weight.any()
    draw(weight)
    assert weight.all(), "outside it draws again"


def test_modules_keep_what_is_not_random() -> None:
    with ZeroWeights():
        modules = nn.Linear(3, 2), nn.LayerNorm(4), nn.Embedding(5, 2), nn.MultiheadAttention(4, 2)
        parameter = nn.Parameter(torch.empty(3).uniform_(1, 2))
    assert not modules[0].weight.any() and not modules[2].weight.any() and not modules[3].in_proj_weight.any()
    assert torch.equal(modules[1].weight, torch.ones(4))
    assert not parameter.any() and parameter.requires_grad
