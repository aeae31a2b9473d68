"""Captions of pictures by ONNX graphs (`onnx_graphs`) and onnxruntime, with the search of all other captions.

Shapes: B images, S captions per image, L positions, P positions read before, G patches, V words.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

import torch
from PIL import Image
from torch import Tensor

from fsgr_model.clip.loading import first_line
from fsgr_model.clip.model_building import build_preprocess
from fsgr_model.inference.describing import About, Caption, Describer, Seen, refuse_at_once
from fsgr_model.inference.onnx_folder import (
    GRAPHS,
    NO_MAPS,
    WORDS,
    OnnxFiles,
    graph_file,
    read_description,
)
from fsgr_model.network.decoder import DecoderState, LayerState
from fsgr_model.runtime.errors import UserError, needing_extra
from fsgr_model.text.vocabulary import Vocabulary

ERRORS = 3


class OnnxCaptioner(Describer):
    """A network in ONNX graphs that captions pictures on the CPU.

    Args:
        files: the folder of the graphs.
        device: None or the CPU.
        wishes: `decode`, `n_best` and `seed`, as `Describer` takes them.

    Raises:
        UserError: a file is missing or not as it was written, of a newer version of the project or of ONNX;
            onnxruntime is missing; another device is asked for; or as `Describer`.
    """

    no_maps = NO_MAPS

    def __init__(self, files: OnnxFiles, *, device: torch.device | None = None, **wishes: Any) -> None:
        if device is not None and device.type != "cpu":
            raise UserError(
                f"{files.folder} has ONNX graphs, which run on the CPU here, not on {device}; leave the "
                "device out, or take the folder that fsgr export writes without --onnx"
            )
        params = files.params()
        refuse_at_once(params, wishes)
        facts = read_description(files.folder)
        self.preprocess = build_preprocess(facts["clip"]["preprocessing"])
        self.graphs = {name: Session(graph_file(files.folder, name)) for name in GRAPHS}
        rows, columns = facts["grid_size"]
        about = About(
            vocabulary=Vocabulary.load(files.folder / WORDS),
            concepts=facts["concepts"],
            grid_size=(rows, columns),
            device=torch.device("cpu"),
            crops_centre=facts["clip"]["preprocessing"]["resize_mode"] != "squash",
            identity=facts,
        )
        super().__init__(about, params, **wishes)

    def prepare(self, picture: Image.Image) -> Tensor:
        """As `Describer.prepare`."""
        return self.preprocess(picture)

    def encode(self, images: Sequence[Tensor]) -> Seen:
        """As `Describer.encode`."""
        tokens = self.graphs["trunk"]({"images": torch.stack(list(images))})
        found = self.graphs["tail"](tokens)
        concept_BG = found.pop("concepts", None)
        return Seen(DecoderState(_layers(found)), concept_BG)

    def step(self, word_BS: Tensor, state: DecoderState) -> tuple[Tensor, DecoderState]:
        """As `Describer.step`."""
        inputs = {"words": word_BS}
        for number, layer in enumerate(state.layers):
            pairs = {
                "keys": (layer.image_keys, layer.word_keys),
                "values": (layer.image_values, layer.word_values),
            }
            for what, (image_BHGC, word_NHPC) in pairs.items():
                inputs[f"image_{what}_{number}"] = image_BHGC
                inputs[f"word_{what}_{number}"] = _of_captions(word_NHPC, word_BS.shape, image_BHGC)
        found = self.graphs["step"](inputs)
        logits_BSV, *said = found.values()
        layers = [
            replace(layer, word_keys=keys.flatten(0, 1), word_values=values.flatten(0, 1))
            for layer, keys, values in zip(state.layers, said[::2], said[1::2], strict=True)
        ]
        return logits_BSV, DecoderState(tuple(layers), state.position + 1)

    def read(self, word_BSL: Tensor, start: DecoderState) -> Tensor:
        """As `Describer.read`, one word after the other: there is no graph that reads several."""
        state, logits = start, []
        for word_BS in word_BSL.unbind(-1):
            logits_BSV, state = self.step(word_BS, state)
            logits.append(logits_BSV)
        return torch.stack(logits, dim=2)

    def label_map(self, image: Tensor) -> NoReturn:
        """As `check_maps`, which refuses."""
        raise UserError(NO_MAPS)

    def attention(self, image: Tensor, caption: Caption) -> NoReturn:
        """As `check_maps`, which refuses."""
        raise UserError(NO_MAPS)

    def weights(self) -> Mapping[str, Tensor]:
        """None: `identity` has the SHA-256 of the graphs."""
        return {}


class Session:
    """A graph that runs: tensors by name go in and come out.

    Raises:
        UserError: onnxruntime is missing, or does not read the file.
    """

    def __init__(self, path: Path) -> None:
        with needing_extra("onnx"):
            import onnxruntime
            from onnxruntime.capi import onnxruntime_pybind11_state as refusals
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        options.log_severity_level = ERRORS
        try:
            self.session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        except (
            refusals.Fail,
            refusals.InvalidGraph,
            refusals.InvalidProtobuf,
            refusals.NotImplemented,
        ) as error:
            raise UserError(
                f"onnxruntime {onnxruntime.__version__} does not read {path}: {first_line(error)}; install a "
                "newer onnxruntime, or export the model again"
            ) from None
        self.outputs = [each.name for each in self.session.get_outputs()]

    def __call__(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        found = self.session.run(self.outputs, {name: tensor.numpy() for name, tensor in inputs.items()})
        return dict(zip(self.outputs, map(torch.from_numpy, found), strict=True))


def _of_captions(word_NHPC: Tensor | None, shape: torch.Size, image_BHGC: Tensor) -> Tensor:
    """Keys or values of the words of each image's captions, [B, S, H, P, C]; P is 0 before the first word."""
    if word_NHPC is not None:
        return word_NHPC.unflatten(0, shape)
    _, H, _, C = image_BHGC.shape
    return image_BHGC.new_empty(*shape, H, 0, C)


def _layers(found: Mapping[str, Tensor]) -> tuple[LayerState, ...]:
    """Keys and values of the image, as the tail gives them."""
    tensors = list(found.values())
    return tuple(LayerState(*pair) for pair in zip(tensors[::2], tensors[1::2], strict=True))
