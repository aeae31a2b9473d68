"""Every kind of network has a form in ONNX, which computes the same for other sizes than the example's."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from fsgr_model.clip.split import FrozenTail
from fsgr_model.clip.towers import make_tail, make_trunk
from fsgr_model.config.model_params import ModelParams
from fsgr_model.inference.onnx_captioner import Session
from fsgr_model.inference.onnx_export import EXAMPLE, compare, write_graph
from fsgr_model.inference.onnx_folder import graph_file
from fsgr_model.inference.onnx_graphs import Graph, TrunkGraph, graphs_of
from fsgr_model.network.assembly import Restored
from fsgr_model.network.memory import Prototypes
from tests.worlds.captioner import assemble, parts_of
from tests.worlds.towers import ALL, OWN_TEXT, images_for, small_tower, with_weights_that_matter

PROTOTYPES = {"kind": "prototypes", "size": 5, "window": 2, "refresh": 2, "neighbours": 2}
# Each option of `model` that changes what is computed, in as few networks as go together.
NETWORKS: dict[str, dict[str, Any]] = {
    "no concepts": {"semantics": False, "residual": "pre", "memory": {"kind": "learned", "size": 5}},
    "prototypes": {
        "inverse_frequency": True,
        "patch_attention": True,
        "residual": "double",
        "memory": PROTOTYPES,
        "align": "value",
    },
    "prompts": {
        "align": "qk_kk",
        "tail": {"adapters": False, "prompts": 2, "prompt_start": "random"},
    },
}
RESNET = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": 64, "layers": [1, 1, 1, 1], "width": 8, "head_width": 8, "patch_size": None},
    "text_cfg": OWN_TEXT,
}


@pytest.mark.slow
@pytest.mark.parametrize("name", NETWORKS)
def test_every_option_of_the_network(name: str, tiny_data: Path, model_params: ModelParams, tmp_path: Path):
    params = ModelParams.model_validate(model_params.model_dump() | NETWORKS[name])
    assembly = assemble(tiny_data, "train", params, 0)
    with_weights_that_matter(assembly.captioner).eval()
    for module in assembly.captioner.modules():
        if isinstance(module, Prototypes):
            module.replace(*torch.randn(2, 5, params.d_model))
    restored = Restored(parts_of(tiny_data, codebook=params.semantics), assembly)
    for part, graph in graphs_of(restored, EXAMPLE).items():
        write_graph(graph, graph_file(tmp_path, part), of=part)
    compare(restored, tmp_path)


class TailOutputs(nn.Module):
    """The three outputs of a tail as a graph has them."""

    def __init__(self, tail: FrozenTail) -> None:
        super().__init__()
        self.tail = tail

    def forward(self, tokens: Tensor) -> tuple[Tensor, ...]:
        return tuple(self.tail(tokens))


@pytest.mark.nightly
@torch.no_grad()
@pytest.mark.parametrize("kind", [*ALL, "open_clip, ResNet"])
def test_every_kind_of_tower(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ALL, "open_clip, ResNet", RESNET)
    model, images = small_tower(kind), images_for(kind)
    cut = 0 if "ResNet" in kind else 1
    trunk = TrunkGraph(make_trunk(model, cut), "float16").eval()
    tail = TailOutputs(make_tail(model, cut, "value" if "Swin" in kind else "plain"))
    (tokens,) = trunk(images)
    graphs = {
        "trunk": Graph(trunk, {"images": images}, {"images": {0: "images"}}, ("tokens",)),
        "tail": Graph(tail, {"tokens": tokens}, {"tokens": {0: "images"}}, ("grid", "image", "aligned")),
    }
    for part, graph in graphs.items():
        write_graph(graph, tmp_path / f"{part}.onnx", of=part)
        session = Session(tmp_path / f"{part}.onnx")
        for count in (1, 2):
            inputs = {name: each[:count] for name, each in graph.inputs.items()}
            expected = graph.module(*inputs.values())
            for found, ours in zip(session(inputs).values(), expected, strict=True):
                assert (found - ours).norm() < 1e-3 * ours.norm()
