"""A trained captioner in Python: three lines caption a picture.

import fsgr_model

model = fsgr_model.load("model")  # a folder that `fsgr export` wrote
print(model.caption("photo.jpg"))
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fsgr_model.config.decode_params import one_way
from fsgr_model.datasets.image_file import DECODING_ERRORS, BadImage, as_rgb, open_rgb
from fsgr_model.inference import ensemble
from fsgr_model.inference.describing import Caption, DescribedImage, Describer
from fsgr_model.inference.ensemble import EnsembleCaptioner
from fsgr_model.inference.hub_model import local_folder
from fsgr_model.inference.model_folder import exported_model
from fsgr_model.runtime.device import device_named
from fsgr_model.runtime.errors import UserError

__all__ = ["Caption", "Captioner", "DescribedImage", "Maps", "Picture", "UserError", "load"]

Picture = str | PathLike[str] | Image.Image
"""The path of an image file, or a picture of Pillow in any mode."""
ONE_PICTURE = (str, PathLike, Image.Image)


@dataclass(frozen=True)
class Maps:
    """Maps of one picture, first row on top; S rows and columns of patches, L words.

    `label_SS`: MaskCLIP's concept of each patch. `concept_SS`: the concept that the quantiser chose; None
    without `model.semantics`. `attention_LSS`: where the network looked when it chose each word, each map
    sums to 1 (the mean over the decoder's layers and heads).
    """

    label_SS: NDArray[np.int64]
    concept_SS: NDArray[np.int64] | None
    attention_LSS: NDArray[np.float32]


class Captioner:
    """A trained network that captions pictures; `load` makes one.

    Several pictures are read and captioned in batches of `decode.batch_size` of the model's parameters.
    A caption does not depend on the other pictures that it is asked for with.

    Args:
        model: the network, with CLIP, the word list and the concepts.
    """

    def __init__(self, model: Describer | EnsembleCaptioner) -> None:
        self.model = model

    # A str is a Sequence[str] as well; here it is always a path.
    @overload
    def caption(self, pictures: Picture) -> str: ...  # type: ignore[overload-overlap]
    @overload
    def caption(self, pictures: Sequence[Picture]) -> list[str]: ...
    def caption(self, pictures: Picture | Sequence[Picture]) -> str | list[str]:
        """The caption of one picture, or the captions of several, in their order.

        With `samples` it is the first caption that was drawn; `describe` gives all of them.

        Raises:
            UserError: a file is missing, or a picture cannot be decoded.
            TypeError: something is neither a path nor a picture of Pillow.
        """
        if isinstance(pictures, ONE_PICTURE):
            return self.caption([pictures])[0]
        return [described.captions[0].text for described in self.describe(pictures)]

    @overload
    def describe(self, pictures: Picture) -> DescribedImage: ...  # type: ignore[overload-overlap]
    @overload
    def describe(self, pictures: Sequence[Picture]) -> list[DescribedImage]: ...
    def describe(self, pictures: Picture | Sequence[Picture]) -> DescribedImage | list[DescribedImage]:
        """Captions with the probabilities of their words, and the concept of every patch, of one or several
        pictures.

        Raises:
            UserError: a file is missing, or a picture cannot be decoded.
            TypeError: something is neither a path nor a picture of Pillow.
        """
        if isinstance(pictures, ONE_PICTURE):
            return self.describe([pictures])[0]
        size = self.model.batch_size
        found: list[DescribedImage] = []
        for start in range(0, len(pictures), size):
            prepared: list[Any] = [
                self.model.prepare(_opened(each)) for each in pictures[start : start + size]
            ]
            found += self.model.describe(prepared)
        return found

    def maps(self, picture: Picture, caption: Caption | None = None) -> Maps:
        """What the network made of one picture, patch by patch, as arrays.

        Args:
            picture: a path or a picture of Pillow.
            caption: the words whose attention is asked for, one of `describe`; by default the best caption.

        Raises:
            UserError: the file is missing, the picture cannot be decoded, or the model is in ONNX graphs,
                which have no maps.
        """
        prepared: Any = self.model.prepare(_opened(picture))
        described = self.model.describe([prepared])[0]
        words = described.captions[0] if caption is None else caption
        attention_LSS = self.model.attention(prepared, words)
        return Maps(self.model.label_map(prepared), described.concept_SS, attention_LSS)

    @property
    def concepts(self) -> list[str]:
        """The names of the concepts, whose indices, from 0, are in `DescribedImage` and `Maps`."""
        return self.model.concepts


def load(
    folder: str | PathLike[str] | Sequence[str | PathLike[str]],
    *,
    beam_size: int | None = None,
    samples: int | None = None,
    n_best: int | None = None,
    decode: Mapping[str, Any] | None = None,
    seed: int = 0,
    device: str | None = None,
) -> Captioner:
    """Load the captioner of a folder that `fsgr export` wrote.

    Args:
        folder: holds the weights, CLIP, the word list and the concepts, or all of it as ONNX graphs, which
            onnxruntime runs on the CPU and which have no `maps`. Or an address of the Hugging Face hub,
            `hf://owner/name` or `hf://owner/name@revision`, whose files stay in the hub's cache. Several
            folders choose each word together, by the mean of their probabilities; parameters are those of the
            first.
        beam_size: the number of hypotheses that beam search keeps; by default that of the model's parameters.
        samples: draw this many captions per picture from the model instead of searching for the likeliest.
        n_best: captions per picture, the best first; `describe` gives all of them.
        decode: parameters below `decode` by dotted name, in place of those of the model:
            `{"length.min_words": 8, "words.must": ["dog"]}` (docs/howto/decoding.md).
        seed: the seed of these draws; the same seed and picture give the same captions.
        device: where to run, as PyTorch names it: cpu, cuda, cuda:1, mps. By default a GPU if there is one,
            else the CPU.

    Raises:
        UserError: a file is missing, damaged, or does not belong to the others; the device cannot be used; a
            number is not 1 or more, `beam_size` and `samples` are both given, or wishes cannot be fulfilled.
    """
    for name, number in (("beam_size", beam_size), ("samples", samples)):
        if number is not None and number < 1:
            raise UserError(f"{name} must be 1 or more, not {number}")
    if beam_size is not None and samples is not None:
        raise UserError("beam_size and samples exclude each other: captions are searched or drawn; give one")
    folders = [folder] if isinstance(folder, str | PathLike) else folder
    return Captioner(
        ensemble.load(
            [exported_model(local_folder(each)) for each in folders],
            decode={**one_way(beam_size, samples), **(decode or {})},
            n_best=n_best,
            seed=seed,
            device=None if device is None else device_named(device),
        )
    )


def _opened(picture: Picture) -> Image.Image:
    """The picture in upright RGB, as `image_file.open_rgb` has it."""
    if isinstance(picture, str | PathLike):
        return open_rgb(Path(picture))
    if not isinstance(picture, Image.Image):
        raise TypeError(f"a picture is a path or a PIL.Image.Image, not {type(picture).__name__}")
    try:
        return as_rgb(picture)
    except DECODING_ERRORS as error:  # Pillow decodes a file only when its pixels are needed
        name = getattr(picture, "filename", "") or "given as a picture of Pillow"
        raise BadImage(str(name), reason=f"cannot be decoded ({error})") from None
