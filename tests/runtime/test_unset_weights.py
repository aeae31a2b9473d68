"""Random weights are not drawn, whatever draws them, and everything else is as ever."""

import pytest
import torch
from torch import nn
from torch.nn import init

from fsgr_model.runtime.unset_weights import UnsetWeights

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
@pytest.mark.parametrize("held", [torch.nan, 1e30])
def test_nothing_is_drawn_and_every_initialiser_ends(draw, held: float) -> None:
    """`trunc_normal_` draws until all values lie in its range, whatever memory held."""
    weight = torch.full((6, 5), held)
    with UnsetWeights():
        assert draw(weight) is weight
    as_it_was = weight.isnan().all() or (weight == held).all()
    assert as_it_was or not weight.any()
    draw(weight)
    assert weight.isfinite().all() and weight.std() > 0, "outside it draws again"


def test_modules_keep_what_is_not_random() -> None:
    state = torch.get_rng_state()
    with UnsetWeights():
        modules = nn.Linear(3, 2), nn.LayerNorm(4), nn.Embedding(5, 2), nn.MultiheadAttention(4, 2)
        parameter = nn.Parameter(torch.full((3,), 7.0).uniform_(1, 2))
    assert torch.equal(torch.get_rng_state(), state), "nothing was drawn"
    assert torch.equal(modules[1].weight, torch.ones(4)) and not modules[3].in_proj_bias.any()
    assert not parameter.any() and parameter.requires_grad
