"""The memory of a step, against what autograd really keeps for the backward pass."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from fsgr_model.clip.model_building import build_model
from fsgr_model.clip.split import Tail
from fsgr_model.config.model_params import ModelParams
from fsgr_model.network.captioner import Captioner
from fsgr_model.training.step_memory import FLOAT32, StepSize, describe_need, step_bytes
from tests.worlds.captioner import with_tail

CLIP = {
    "embed_dim": 64,
    "vision_cfg": {"image_size": 56, "patch_size": 8, "layers": 4, "width": 64, "head_width": 32},
    "text_cfg": {"context_length": 8, "vocab_size": 49408, "width": 8, "heads": 2, "layers": 1},
}
T, W = 50, 64


def captioner_with(adapters: bool, layers: int = 2) -> Captioner:
    params = ModelParams(
        d_model=64,
        num_heads=4,
        d_ff=256,
        encoder_layers=layers,
        decoder_layers=layers,
        dropout=0.1,
        top_k=3,
    )
    params = with_tail(params, adapters=adapters, prompts=8 if adapters else 0)
    torch.manual_seed(0)
    tail = Tail(build_model(CLIP, "tiny"), 1, "csa")
    unit = F.normalize(torch.randn(520, 64), dim=-1)
    return Captioner(tail, 7, unit[:20], unit[20:], params=params).train()


def saved_bytes(model: Captioner, B: int, S: int, L: int) -> int:
    """Of the tensors that autograd keeps, each storage once, weights left out."""
    own = {tensor.untyped_storage().data_ptr() for tensor in [*model.parameters(), *model.buffers()]}
    kept: dict[int, Tensor] = {}

    def keep(tensor: Tensor) -> Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        logits = model(torch.randn(B, T, W), torch.randint(4, 500, (B, S, L)))
        F.cross_entropy(logits.flatten(0, 2), torch.zeros(B * S * L, dtype=torch.int64)).backward()
    return sum(tensor.untyped_storage().nbytes() for place, tensor in kept.items() if place not in own)


@pytest.mark.parametrize("adapters", [True, False])
@pytest.mark.parametrize(("S", "L"), [(5, 12), (2, 30)])
def test_the_estimate_is_near_what_autograd_keeps(adapters: bool, S: int, L: int) -> None:
    model = captioner_with(adapters)
    kept = saved_bytes(model, 6, S, L)
    of_weights = step_bytes(model, StepSize(0, S * L, (T, W)))
    estimate = step_bytes(model, StepSize(6, S * L, (T, W))) - of_weights
    assert 0.9 * kept < estimate < 2 * kept


def test_weights_count_with_their_gradient_and_adams_state() -> None:
    model = captioner_with(False)
    trained = sum(weight.numel() for weight in model.trained_weights().values())
    frozen = sum(weight.numel() for weight in model.parameters()) - trained
    assert step_bytes(model, StepSize(0, 100, (T, W))) == FLOAT32 * (4 * trained + frozen)


def test_the_line_before_training_has_both_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fsgr_model.training.step_memory.device_memory", lambda device: 40 * 10**9)
    line = describe_need("XE", 11_240_000_000, images=100, device=torch.device("cuda"))
    assert line == "XE needs about 11 GB at 100 images per step; this GPU has 40 GB"
