"""Muon (Jordan et al. 2024, https://kellerjordan.github.io/posts/muon): updates of matrices made orthogonal.

It is the same rule as `torch.optim.Muon` with `adjust_lr_fn="match_rms_adamw"`, which updates one matrix
after the other, so that a network of small layers waits for hundreds of small products per step. Here all
matrices of one shape go through each product together.

Shapes: N matrices of R rows and C columns.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

MOMENTUM = 0.95
ITERATIONS = 5
# Coefficients of the quintic with a steep slope at zero; singular values end between 0.7 and 1.2.
COEFFICIENTS = (3.4445, -4.775, 2.0315)
# The root mean square of Adam's updates (arXiv 2502.16982, section 2.2).
ADAM_RMS = 0.2


class Muon(torch.optim.Optimizer):
    """Nesterov momentum, orthogonalised; weight decay is decoupled. Takes matrices only."""

    def __init__(
        self, params: Iterable[dict[str, Any]], lr: float = 1e-3, *, weight_decay: float = 0.0
    ) -> None:
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Update every weight that has a gradient."""
        assert closure is None, "the loop computes the loss"
        for group in self.param_groups:
            alike: dict[torch.Size, list[Tensor]] = defaultdict(list)
            for weight in group["params"]:
                if weight.grad is not None:
                    alike[wide(weight).shape].append(weight)
            for shape, weights in alike.items():
                update_NRC = orthogonal(torch.stack([wide(self._momentum(weight)) for weight in weights]))
                rate = group["lr"] * ADAM_RMS * max(shape) ** 0.5
                for weight, update_RC in zip(weights, update_NRC, strict=True):
                    weight.mul_(1 - group["lr"] * group["weight_decay"])
                    wide(weight).add_(update_RC, alpha=-rate)

    def _momentum(self, weight: Tensor) -> Tensor:
        assert weight.grad is not None
        state = self.state[weight]
        if not state:
            state["momentum_buffer"] = torch.zeros_like(weight.grad)
        state["momentum_buffer"].lerp_(weight.grad, 1 - MOMENTUM)
        return weight.grad.lerp(state["momentum_buffer"], MOMENTUM)


def wide(matrix: Tensor) -> Tensor:
    """The matrix or its transpose, whichever has no more rows than columns; a view."""
    return matrix.T if matrix.shape[0] > matrix.shape[1] else matrix


def orthogonal(matrix_NRC: Tensor) -> Tensor:
    """About U V^T of each matrix U S V^T, by Newton-Schulz iteration; R must not be above C.

    It runs in bfloat16 on a GPU and in float32 elsewhere: a CPU without instructions for bfloat16 takes forty
    times as long for it.
    """
    x_NRC = matrix_NRC.to(torch.bfloat16 if matrix_NRC.is_cuda else torch.float32)
    x_NRC = x_NRC / x_NRC.norm(dim=(1, 2), keepdim=True).clamp(min=1e-7)
    _, R, C = x_NRC.shape
    # bfloat16 would lose the small singular values in the squares of a Gram matrix that is used throughout.
    by_gram = C > 2 * R and x_NRC.dtype == torch.float32
    return _iterate_gram(x_NRC) if by_gram else _iterate(x_NRC)


def _iterate(x_NRC: Tensor) -> Tensor:
    """X <- (a + b G + c G G) X with G = X X^T, each time anew."""
    a, b, c = COEFFICIENTS
    for _ in range(ITERATIONS):
        gram_NRR = x_NRC @ x_NRC.mT
        polynomial_NRR = torch.baddbmm(gram_NRR, gram_NRR, gram_NRR, beta=b, alpha=c)
        x_NRC = torch.baddbmm(x_NRC, polynomial_NRR, x_NRC, beta=a)
    return x_NRC


def _iterate_gram(x_NRC: Tensor) -> Tensor:
    """The same on G alone, which P X turns into P G P: a wide X is multiplied only twice, not ten times."""
    gram_NRR = x_NRC @ x_NRC.mT
    product_NRR = polynomial_NRR = _polynomial(gram_NRR)
    for _ in range(ITERATIONS - 1):
        gram_NRR = polynomial_NRR @ gram_NRR @ polynomial_NRR
        polynomial_NRR = _polynomial(gram_NRR)
        product_NRR = polynomial_NRR @ product_NRR
    return product_NRR @ x_NRC


def _polynomial(gram_NRR: Tensor) -> Tensor:
    """a I + b G + c G G"""
    a, b, c = COEFFICIENTS
    polynomial_NRR = torch.baddbmm(gram_NRR, gram_NRR, gram_NRR, beta=b, alpha=c)
    polynomial_NRR.diagonal(dim1=1, dim2=2).add_(a)
    return polynomial_NRR
