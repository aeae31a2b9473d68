"""Writes the graphs of a trained network (`onnx_graphs`), and compares what they compute with PyTorch."""

import logging
import math
import shutil
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

import torch
from torch import Tensor
from torch.export import Dim

from fsgr_model.clip.loading import first_line
from fsgr_model.inference.model_folder import ModelFiles
from fsgr_model.inference.onnx_captioner import Session
from fsgr_model.inference.onnx_folder import WORDS, graph_file, write_description
from fsgr_model.inference.onnx_graphs import Graph, Sizes, graphs_of
from fsgr_model.network.assembly import Restored, restore
from fsgr_model.network.decoder import MAX_POSITIONS
from fsgr_model.runtime.errors import UserError, needing_extra

# The exporter takes sizes of 0 and 1 as fixed, and equal ones as the same.
EXAMPLE = Sizes(images=2, captions=3, positions=4)
# The first step of a search, and a later one.
TRIALS = (Sizes(images=3, captions=1, positions=0), Sizes(images=1, captions=4, positions=3))
FREE = {
    "images": Dim("images", min=1),
    "captions": Dim("captions", min=1),
    "positions": Dim("positions", min=0, max=MAX_POSITIONS - 1),
    "patches": Dim("patches", min=1),
}
LOGGERS = ("torch.onnx", "onnxscript", "onnx_ir")
# A file in protobuf's format has at most 2 GiB: larger weights lie beside their graph.
MOST_BYTES = 1_900_000_000
# Of an output, over its norm. Sums in another order, in float32, stay far below.
MOST_DIFFERENCE = 1e-3


def write_graphs(files: ModelFiles, folder: Path) -> None:
    """Write the graphs of a network, its words and `onnx.json` to a folder.

    Raises:
        UserError: a file is missing or damaged; a package of the extra is missing; the network has no form in
            ONNX, or computes something else there.
    """
    made_by = _packages()
    restored = restore(files.artifacts, files.weights, torch.device("cpu"))
    parts = restored.parts
    name = parts.clip.identity["model"]
    for part, graph in graphs_of(restored, EXAMPLE).items():
        write_graph(graph, graph_file(folder, part), of=f"the {part} of this network on CLIP {name}")
    compare(restored, folder)
    (folder / WORDS).parent.mkdir(exist_ok=True)
    shutil.copyfile(files.artifacts / WORDS, folder / WORDS)
    assert parts.codebook is not None, "restore reads it"
    facts = {
        "made_by": made_by,
        "clip": parts.clip.identity,
        "cache_dtype": parts.cache_dtype,
        # The encoder takes no other than square grids.
        "grid_size": [math.isqrt(len(restored.assembly.captioner.encoder.position_GD))] * 2,
        "concepts": parts.codebook.names,
    }
    write_description(folder, facts)


def write_graph(graph: Graph, path: Path, of: str) -> None:
    """Write one graph; `of` names it in a message.

    Raises:
        UserError: it has no form in ONNX.
    """
    first, *others = [
        {axis: FREE[name] for axis, name in graph.free.get(each, {}).items()} for each in graph.inputs
    ]
    weights = sum(each.nbytes for each in {*graph.module.parameters(), *graph.module.buffers()})
    with _quietly():
        try:
            program = torch.onnx.export(
                graph.module,
                tuple(graph.inputs.values()),
                dynamo=True,
                input_names=list(graph.inputs),
                output_names=list(graph.outputs),
                dynamic_shapes=(first, tuple(others)) if others else (first,),
                verbose=False,
            )
        except torch.onnx.OnnxExporterError as error:
            reason = first_line(error.__cause__ or error)
            raise UserError(
                f"{of} has no form in ONNX, as PyTorch {torch.__version__} writes it: {reason}; export it "
                "without --onnx"
            ) from None
    assert program is not None, "the current exporter returns one"
    _check_free_sizes(program, graph, of)
    program.save(path, external_data=weights > MOST_BYTES)


def _check_free_sizes(program: torch.onnx.ONNXProgram, graph: Graph, of: str) -> None:
    """Refuse a graph that has a size of its example for ever: the exporter fixes sizes without a word
    (findings/torch_onnx_fixes_sizes.sh).
    """
    for value in program.model.graph.inputs:
        assert value.name is not None and value.shape is not None, "both were given"
        for axis, size in graph.free.get(value.name, {}).items():
            if isinstance(value.shape[axis], int):
                raise UserError(
                    f"{of} has no form in ONNX, as PyTorch {torch.__version__} writes it: the number of "
                    f"{size} of its input {value.name} would always be {value.shape[axis]}; export it "
                    "without --onnx"
                )


@torch.no_grad()
def compare(restored: Restored, folder: Path) -> None:
    """Run the graphs beside PyTorch, on the same inputs of other sizes than the example's.

    Raises:
        UserError: an output differs; the message says by how much.
    """
    sessions: dict[str, Session] = {}
    for sizes in TRIALS:
        for part, graph in graphs_of(restored, sizes).items():
            session = sessions.setdefault(part, Session(graph_file(folder, part)))
            expected = graph.module(*graph.inputs.values())
            found = session(graph.inputs)
            for name, ours in zip(graph.outputs, expected, strict=True):
                if (apart := _difference(found[name], ours)) > MOST_DIFFERENCE:
                    raise UserError(
                        f"the graph of the {part} does not compute what PyTorch does: its {name} differ by "
                        f"{apart:.2g} of their norm, more than {MOST_DIFFERENCE}; export it without --onnx"
                    )


def _difference(found: Tensor, expected: Tensor) -> float:
    """Of an output, over its norm; infinite where the shapes differ or a number is not finite."""
    if found.shape != expected.shape:
        return float("inf")
    apart = (found.double() - expected.double()).norm() / expected.double().norm().clamp(min=1e-30)
    return float(apart) if apart.isfinite() else float("inf")


def _packages() -> dict[str, str]:
    """The versions of what makes a graph.

    Raises:
        UserError: one is missing.
    """
    with needing_extra("onnx"):
        import onnx
        import onnxscript

    return {"torch": version("torch"), "onnx": onnx.__version__, "onnxscript": onnxscript.__version__}


@contextmanager
def _quietly() -> Iterator[None]:
    """Without the exporter's notes to its developers."""
    levels = {logger: logger.level for logger in map(logging.getLogger, LOGGERS)}
    for logger in levels:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in levels.items():
            logger.setLevel(level)
