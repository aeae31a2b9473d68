"""Adam, or Muon for the matrices of transformer layers with Adam for the rest; saved and restored as one."""

from typing import Any, Literal

import torch
from torch import Tensor, nn

Kind = Literal["adam", "muon"]
# Layers of the captioner and of open_clip's towers.
LAYERS = ("layers.", "resblocks.")


class Optimiser:
    """Steps all trainable weights of a network.

    Adam's weight decay is decoupled (AdamW, arXiv 1711.05101), its betas are (0.9, 0.98); gains and biases
    do not decay. Muon (Jordan et al. 2024) makes each update of a matrix orthogonal. On the small data that
    networks are trained on from scratch here it needs about half of Adam's steps. Its updates have twice the
    size of Adam's (arXiv 2502.16982, section 2.2), so one rate serves both.
    """

    def __init__(self, model: nn.Module, kind: Kind, rate: float, weight_decay: float) -> None:
        named = [(name, weight) for name, weight in model.named_parameters() if weight.requires_grad]
        matrices = [
            weight
            for name, weight in named
            if kind == "muon" and weight.ndim == 2 and any(layer in name for layer in LAYERS)
        ]
        by_muon = {id(weight) for weight in matrices}
        rest = [weight for _, weight in named if id(weight) not in by_muon]
        groups = [
            {"params": [weight for weight in rest if weight.ndim >= 2], "weight_decay": weight_decay},
            {"params": [weight for weight in rest if weight.ndim < 2], "weight_decay": 0.0},
        ]
        self._parts: list[torch.optim.Optimizer] = [torch.optim.AdamW(groups, lr=rate, betas=(0.9, 0.98))]
        if matrices:
            muon = torch.optim.Muon(
                matrices, lr=rate, weight_decay=weight_decay, adjust_lr_fn="match_rms_adamw"
            )
            self._parts.append(muon)

    def set_rate(self, rate: float) -> None:
        """The learning rate of the steps that follow."""
        for part in self._parts:
            factor = 2.0 if isinstance(part, torch.optim.Muon) else 1.0
            for group in part.param_groups:
                group["lr"] = factor * rate

    def step(self) -> None:
        """Update the weights by their gradients, and clear these."""
        for part in self._parts:
            part.step()
            part.zero_grad(set_to_none=True)

    def tensors(self) -> dict[str, Tensor]:
        """The state as named tensors, for a resume point."""
        return {
            f"optimiser.{number}.{index}.{key}": value
            for number, part in enumerate(self._parts)
            for index, state in part.state_dict()["state"].items()
            for key, value in state.items()
        }

    def load(self, tensors: dict[str, Tensor]) -> None:
        """Take over a state that `tensors` gave; names of other things are passed over."""
        for number, part in enumerate(self._parts):
            state: dict[int, dict[str, Any]] = {}
            for name, value in tensors.items():
                if name.startswith(f"optimiser.{number}."):
                    index, key = name.split(".")[2:]
                    state.setdefault(int(index), {})[key] = value
            part.load_state_dict({**part.state_dict(), "state": state})
