"""A split as training reads it: cached features beside the captions of the normal form."""

from pathlib import Path

from fsgr_model.clip.codebook import load_codebook
from fsgr_model.clip.feature_store import RowStore
from fsgr_model.datasets.normal_form import Split, read_captions, read_images
from fsgr_model.network.assembly import Assembly
from fsgr_model.training.batches import CaptionedImages


def captioned_images(
    data: Path,
    split: Split,
    assembly: Assembly,
    max_length: int,
    shuffle_seed: int | None = None,
    labels: RowStore | None = None,
) -> CaptionedImages:
    """The images of a split with their cached features, their captions as word ids, <bos> to <eos>, and
    their label maps if given.
    """
    store = RowStore(data / "features" / f"{split}.h5", assembly.made_with["trunk"])
    captions = {
        image_id: [assembly.vocabulary.encode(tokens, max_length - 1) for tokens in of_image]
        for image_id, of_image in caption_tokens(data, split).items()
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


def caption_tokens(data: Path, split: Split) -> dict[int, list[list[str]]]:
    """The tokens of every caption of every image of a split."""
    captions = read_captions(data / "dataset")
    images = read_images(data / "dataset", split)
    return {image.image_id: [caption.tokens for caption in captions[image.image_id]] for image in images}
