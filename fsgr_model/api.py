"""A trained captioner in Python: three lines caption a picture.

from fsgr_model import load_captioner

captioner = load_captioner("model")  # a folder that `fsgr export` wrote
print(captioner("photo.jpg"))
"""

from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any, overload

from PIL import Image

from fsgr_model.config.decode_params import one_way
from fsgr_model.datasets.image_file import DECODING_ERRORS, BadImage, as_rgb, open_rgb
from fsgr_model.inference.ensemble import EnsembleCaptioner, load
from fsgr_model.inference.image_captioner import Caption, DescribedImage, ImageCaptioner
from fsgr_model.inference.model_folder import exported_model
from fsgr_model.runtime.device import device_named
from fsgr_model.runtime.errors import UserError

__all__ = ["Caption", "Captioner", "DescribedImage", "Picture", "UserError", "load_captioner"]

Picture = str | PathLike[str] | Image.Image
"""The path of an image file, or a picture of Pillow in any mode."""
ONE_PICTURE = (str, PathLike, Image.Image)


class Captioner:
    """A trained network that captions pictures; `load_captioner` makes one.

    Several pictures are read and captioned in batches of `decode.batch_size` of the model's parameters.
    A caption does not depend on the other pictures that it is asked for with.

    Args:
        model: the network, with CLIP, the word list and the concepts.
    """

    def __init__(self, model: ImageCaptioner | EnsembleCaptioner) -> None:
        self.model = model

    # A str is a Sequence[str] as well; here it is always a path.
    @overload
    def __call__(self, pictures: Picture) -> str: ...  # type: ignore[overload-overlap]
    @overload
    def __call__(self, pictures: Sequence[Picture]) -> list[str]: ...
    def __call__(self, pictures: Picture | Sequence[Picture]) -> str | list[str]:
        """The caption of one picture, or the captions of several, in their order.

        With `samples` it is the first caption that was drawn; `describe` gives all of them.

        Raises:
            UserError: a file is missing, or a picture cannot be decoded.
            TypeError: something is neither a path nor a picture of Pillow.
        """
        if isinstance(pictures, ONE_PICTURE):
            return self([pictures])[0]
        return [described.captions[0].text for described in self.describe(pictures)]

    @overload
    def describe(self, pictures: Picture) -> DescribedImage: ...  # type: ignore[overload-overlap]
    @overload
    def describe(self, pictures: Sequence[Picture]) -> list[DescribedImage]: ...
    def describe(self, pictures: Picture | Sequence[Picture]) -> DescribedImage | list[DescribedImage]:
        """Captions with their log-probabilities, and the concept of every patch, of one or several pictures.

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

    @property
    def concepts(self) -> list[str]:
        """The names of the concepts; `DescribedImage.concept_SS` holds their indices, from 0."""
        return self.model.codebook.names


def load_captioner(
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
        folder: holds the weights, CLIP, the word list and the concepts. Several folders choose each word
            together, by the mean of their probabilities; parameters are those of the first.
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
        load(
            [exported_model(Path(each)) for each in folders],
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
