"""What processes exchange in a step, gradients and numbers; and a check that their weights agree."""

import hashlib
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from fsgr_model.runtime.errors import UserError
from fsgr_model.runtime.world import World


@torch.no_grad()
def sum_gradients(weights: Sequence[nn.Parameter], world: World) -> None:
    """Replace each gradient by its sum over processes; every process gets the same bits.

    A weight that some process has no gradient for counts as 0 there; one that none has keeps none, so that
    the optimiser leaves it alone, as it does with one process.
    """
    if not world.together:
        return
    has = world.sum(torch.tensor([weight.grad is not None for weight in weights], dtype=torch.int64)).tolist()
    used = [weight for weight, count in zip(weights, has, strict=True) if count]
    for dtype in {weight.dtype for weight in used}:
        of_type = [weight for weight in used if weight.dtype == dtype]
        own = [torch.zeros_like(weight) if weight.grad is None else weight.grad for weight in of_type]
        # One call for all of them, as a call costs more than a small gradient.
        total = world.sum(torch.cat([gradient.reshape(-1) for gradient in own]), "gradients")
        for weight, part in zip(of_type, total.split([weight.numel() for weight in of_type]), strict=True):
            weight.grad = part.view_as(weight).clone()


def sum_numbers(numbers: dict[str, float], world: World) -> dict[str, float]:
    """The sums over processes of numbers of the same names."""
    if not world.together:
        return numbers
    total = world.sum(torch.tensor(list(numbers.values()), dtype=torch.float64))
    return dict(zip(numbers, total.tolist(), strict=True))


def check_weights_agree(tensors: Mapping[str, Tensor], world: World) -> None:
    """Compare the weights of all processes, as they would otherwise train networks of their own unnoticed.

    Raises:
        UserError: they differ; the message has the first name.
    """
    if not world.together:
        return
    own = {name: _sha256(tensor) for name, tensor in tensors.items()}
    for rank, found in enumerate(world.everyones(own)):
        if different := [name for name in own if found.get(name) != own[name]]:
            raise UserError(
                f"{different[0]} and {len(different) - 1} further weights differ between processes "
                f"{world.rank} and {rank}, which update them alike: suspect the memory of a GPU or machine; "
                "delete nothing, and start again from the last resume point"
            )


def _sha256(tensor: Tensor) -> str:
    flat = tensor.detach().cpu().contiguous().view(-1)
    return hashlib.sha256(flat.view(torch.uint8).numpy().data).hexdigest()
