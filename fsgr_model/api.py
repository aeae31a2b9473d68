"""A trained captioner in Python: three lines caption a picture.

from fsgr_model import load_captioner

captioner = load_captioner("model")  # a folder that `fsgr export` wrote
print(captioner("photo.jpg"))
"""

from collections.abc import Sequence
from os import PathLike
from pathlib import Path
from typing import overload

from PIL import Image

from fsgr_model.datasets.image_file import as_rgb, open_rgb
from fsgr_model.inference.image_captioner import DescribedImage, ImageCaptioner
from fsgr_model.inference.model_folder import exported_model

Picture = str | PathLike[str] | Image.Image


class Captioner:
    """A trained network that captions pictures: paths of image files, or pictures of Pillow.

    Args:
        model: what captions prepared pictures, on the device that it picked.
    """

    def __init__(self, model: ImageCaptioner) -> None:
        self.model = model

    # A str is a sequence of str as well; it is taken for a path.
    @overload
    def __call__(self, pictures: Picture) -> str: ...  # type: ignore[overload-overlap]
    @overload
    def __call__(self, pictures: Sequence[Picture]) -> list[str]: ...
    def __call__(self, pictures: Picture | Sequence[Picture]) -> str | list[str]:
        """The caption of a picture, or the caption of each of several, in their order.

        With `samples` it is the first one that was drawn; `describe` has them all.

        Raises:
            UserError: a file is missing, or is no picture that can be decoded.
        """
        if isinstance(pictures, str | PathLike | Image.Image):
            return self([pictures])[0]
        return [described.captions[0].text for described in self.describe(pictures)]

    def describe(self, pictures: Sequence[Picture]) -> list[DescribedImage]:
        """Captions of each picture with their log-probabilities, and the concept of each of its patches.

        Raises:
            UserError: a file is missing, or is no picture that can be decoded.
        """
        size = self.model.batch_size
        found: list[DescribedImage] = []
        for start in range(0, len(pictures), size):
            opened = [_opened(picture) for picture in pictures[start : start + size]]
            found += self.model.describe([self.model.prepare(picture) for picture in opened])
        return found

    @property
    def concepts(self) -> list[str]:
        """The names of the concepts that `DescribedImage.concept_SS` numbers."""
        return self.model.codebook.names


def load_captioner(
    folder: str | PathLike[str], *, beam_size: int | None = None, samples: int | None = None, seed: int = 0
) -> Captioner:
    """The captioner of a folder that `fsgr export` wrote, on a GPU where there is one.

    Args:
        folder: with the weights, the CLIP and the word list.
        beam_size: hypotheses kept; by default as the model's own parameters say.
        samples: draw so many captions per picture instead of searching for the likeliest.
        seed: of these draws.

    Raises:
        UserError: a file is missing, damaged, or does not belong to the others.
    """
    return Captioner(ImageCaptioner(exported_model(Path(folder)), beam_size, samples, seed))


def _opened(picture: Picture) -> Image.Image:
    return as_rgb(picture) if isinstance(picture, Image.Image) else open_rgb(Path(picture))
