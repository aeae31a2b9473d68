"""Adam, or Muon for the matrices of transformer layers with Adam for the rest; saved and restored as one."""

from typing import Any, Literal

import torch
from torch import Tensor, nn

from fsgr_model.training.muon import Muon

Kind = Literal["adam", "muon"]
# Layers of the captioner, of open_clip's towers and of timm's.
LAYERS = ("layers.", "resblocks.", "trunk.blocks.", "trunk.stages.")
# The modules that a captioner trains inside CLIP: adapters and prompts.
VISUAL = "tail."


class Optimiser:
    """Updates all trainable weights of a network.

    Adam's weight decay is decoupled (AdamW, arXiv 1711.05101), its betas are (0.9, 0.98); gains and biases
    do not decay. Muon (Jordan et al. 2024) makes each update of a matrix orthogonal. On the small data that
    networks are trained on from scratch here it needs about half of Adam's steps. Its updates have twice the
    size of Adam's (arXiv 2502.16982, section 2.2), so one rate serves both. What is trained inside CLIP is
    always Adam's (a choice: Muon is for networks trained from scratch), at `visual_factor` of the rate.
    """

    def __init__(
        self,
        model: nn.Module,
        kind: Kind,
        rate: float,
        *,
        weight_decay: float,
        visual_factor: float = 1.0,
        heads: nn.Module | None = None,
    ) -> None:
        """`heads`: modules that are trained beside the network, if any."""
        parts = [model] if heads is None else [model, heads]
        everything = [named for part in parts for named in part.named_parameters()]
        named = [(name, weight) for name, weight in everything if weight.requires_grad]
        visual = [weight for name, weight in named if name.startswith(VISUAL)]
        own = [(name, weight) for name, weight in named if not name.startswith(VISUAL)]
        matrices = [weight for name, weight in own if kind == "muon" and _is_matrix_of_layer(name, weight)]
        by_muon = {id(weight) for weight in matrices}
        rest = [weight for _, weight in own if id(weight) not in by_muon]
        groups = _groups(rest, 1.0, weight_decay) + _groups(visual, visual_factor, weight_decay)
        # Fused: weights and moments pass through memory once per step instead of a dozen times.
        adam = torch.optim.AdamW(groups, betas=(0.9, 0.98), fused=True)
        self._parts: list[torch.optim.Optimizer] = [adam]
        if matrices:
            self._parts.append(Muon([{"params": matrices, "rate_factor": 2.0}], weight_decay=weight_decay))
        self.set_rate(rate)

    def set_rate(self, rate: float) -> None:
        """The learning rate of the steps that follow."""
        for part in self._parts:
            for group in part.param_groups:
                group["lr"] = group["rate_factor"] * rate

    def gradient_norm(self) -> Tensor:
        """The norm of all gradients as one vector, a scalar on their device."""
        return nn.utils.get_total_norm([weight.grad for weight in self.weights() if weight.grad is not None])

    @torch.no_grad()
    def clip_gradients(self, norm: float, *, max_norm: float) -> None:
        """Scale the gradients, whose norm is `norm`, down to `max_norm` (arXiv 1211.5063, algorithm 1).

        Smaller gradients are left alone, without a pass through them.
        """
        if norm > max_norm:
            gradients = [weight.grad for weight in self.weights() if weight.grad is not None]
            torch._foreach_mul_(gradients, max_norm / norm)

    def weights(self) -> list[nn.Parameter]:
        """All that it updates, always in the same order."""
        return [weight for part in self._parts for group in part.param_groups for weight in group["params"]]

    def unscale(self, scaler: torch.amp.GradScaler) -> None:
        """Divide the gradients by the scale of the loss; does nothing where the scaler is off."""
        for part in self._parts:
            scaler.unscale_(part)

    def step(self, scaler: torch.amp.GradScaler | None = None) -> None:
        """Update the weights and clear the gradients; there is no update if a scaled gradient overflowed."""
        for part in self._parts:
            if scaler is None:
                part.step()
            else:
                scaler.step(part)
        if scaler is not None:
            scaler.update()
        self.clear_gradients()

    def clear_gradients(self) -> None:
        """Set the gradients to None."""
        for part in self._parts:
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
        """Load a state that `tensors` returned; other names are ignored."""
        for number, part in enumerate(self._parts):
            state: dict[int, dict[str, Any]] = {}
            for name, value in tensors.items():
                if name.startswith(f"optimiser.{number}."):
                    index, key = name.split(".")[2:]
                    state.setdefault(int(index), {})[key] = value
            part.load_state_dict({**part.state_dict(), "state": state})


def _is_matrix_of_layer(name: str, weight: Tensor) -> bool:
    return weight.ndim == 2 and any(layer in name for layer in LAYERS)


def _groups(weights: list[nn.Parameter], rate_factor: float, weight_decay: float) -> list[dict[str, Any]]:
    """Parameter groups of Adam: of the weights that decay, and of those that do not."""
    matrices = [weight for weight in weights if weight.ndim >= 2]
    vectors = [weight for weight in weights if weight.ndim < 2]
    return [
        {"params": matrices, "weight_decay": weight_decay, "rate_factor": rate_factor},
        {"params": vectors, "weight_decay": 0.0, "rate_factor": rate_factor},
    ]
