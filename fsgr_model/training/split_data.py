"""A split as training reads it: cached features beside the captions of the normal form."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fsgr_model.clip.codebook import load_codebook
from fsgr_model.config.params import PhaseParams
from fsgr_model.datasets.normal_form import ImageRecord, Split, read_captions, read_images
from fsgr_model.network.assembly import Assembly
from fsgr_model.runtime.errors import UserError
from fsgr_model.runtime.row_store import RowStore
from fsgr_model.training.batches import CaptionedImages


@dataclass(frozen=True)
class Drawn:
    """Some of the images of a split: the first `count` in an order that `seed` gives."""

    count: int
    seed: int

    def of(self, images: list[ImageRecord]) -> list[ImageRecord]:
        """These of the images, in the order of the manifest."""
        self.check(len(images))
        order = np.random.default_rng(self.seed).permutation(len(images))
        return [images[place] for place in sorted(order[: self.count])]

    def check(self, images: int) -> None:
        """Stop if there are not as many images.

        Raises:
            UserError: with both numbers.
        """
        if self.count > images:
            raise UserError(
                f"train_images is {self.count}, and there are {images} training images; "
                "lower it, or set it to null for all of them"
            )


def drawn_images(params: PhaseParams, seed: int) -> Drawn | None:
    """The training images that a phase trains on; None: all."""
    return None if params.train_images is None else Drawn(params.train_images, seed)


def captioned_images(
    data: Path,
    split: Split,
    assembly: Assembly,
    max_length: int,
    shuffle_seed: int | None = None,
    labels: RowStore | None = None,
    drawn: Drawn | None = None,
) -> CaptionedImages:
    """The images of a split, or those drawn from it, with their cached features, their captions as word ids,
    <bos> to <eos>, and their label maps if given.

    Raises:
        UserError: more images are to be drawn than there are.
    """
    store = RowStore(data / "features" / f"{split}.h5", assembly.made_with["trunk"])
    captions = {
        image_id: [assembly.vocabulary.encode(tokens, max_length - 1) for tokens in of_image]
        for image_id, of_image in caption_tokens(data, split, drawn).items()
    }
    return CaptionedImages(store, captions, shuffle_seed, labels)


def label_maps(data: Path, split: Split, assembly: Assembly) -> RowStore:
    """The label maps of a split.

    Raises:
        UserError: they are missing, or were made from other features or another codebook. A label that is
            no number of a concept is found with the first batch that holds it.
    """
    codebook = load_codebook(data / "codebook")
    expected = {**assembly.made_with["trunk"], "codebook": codebook.identity}
    return RowStore(data / "labels" / f"{split}.h5", expected, below=len(codebook.names))


def caption_tokens(data: Path, split: Split, drawn: Drawn | None = None) -> dict[int, list[list[str]]]:
    """The tokens of every caption of every image of a split, or of those drawn from it."""
    captions = read_captions(data / "dataset")
    return {
        image_id: [caption.tokens for caption in captions[image_id]]
        for image_id in image_ids(data, split, drawn)
    }


def image_ids(data: Path, split: Split, drawn: Drawn | None = None) -> list[int]:
    """The images of a split, or those drawn from it, in the order of the manifest."""
    images = read_images(data / "dataset", split)
    return [image.image_id for image in (images if drawn is None else drawn.of(images))]
