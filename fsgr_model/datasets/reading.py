"""Converts the user's files to the normal form: first their lists and the contract, then the pictures."""

from dataclasses import dataclass, field
from pathlib import Path
from sys import intern
from typing import Any

from fsgr_model.config.dataset_params import M2Dataset, PerSplit, ShardDataset, UserDataset
from fsgr_model.config.text_params import Segmenter
from fsgr_model.datasets.coco_pictures import located
from fsgr_model.datasets.contract import check_contract, check_splits_filled
from fsgr_model.datasets.formats import FORMATS
from fsgr_model.datasets.image_check import gather, inspection, links_out, refuse_bad_images
from fsgr_model.datasets.instances import read_instance_files
from fsgr_model.datasets.normal_form import CaptionRecord, Dataset
from fsgr_model.datasets.numbering import make_ids_unique, refuse_masks, refuse_same_pictures
from fsgr_model.datasets.picture_folders import count_read
from fsgr_model.datasets.raw_form import RawCaption, RawDataset, RawImage
from fsgr_model.datasets.shards import read_shards, unpack_pictures
from fsgr_model.runtime.collector import no_circles
from fsgr_model.runtime.errors import UserError
from fsgr_model.runtime.listing import listed
from fsgr_model.text.segmenters import segment


@dataclass(frozen=True)
class Reading:
    """A dataset, the images that were left out with the reason for each, and the reader's notes.

    `read` counts, for the report, what the lists name and what is in the folders.
    """

    dataset: Dataset
    bad: list[tuple[RawImage, str]]
    notes: list[str]
    read: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Pictures:
    """The folder of the pictures now, and the one that they will have when the stage has ended."""

    folder: Path
    place: Path


def read_dataset(
    params: UserDataset, place: Path, folder: Path, *, workers: int, segmenter: Segmenter = "ptb"
) -> Reading:
    """Read what `params` names; pictures of tar files are unpacked to `folder`, which will become `place`.

    `segmenter` divides the captions into words.

    Raises:
        UserError: the files break a rule of the contract.
    """
    root = Path(params.root)
    _check_folders(params, root)
    with no_circles():
        raw, pictures = _read_lists(params, root, place=place, folder=folder)
        read = count_read(raw, pictures.folder, folders_below(params))
        numbered = make_ids_unique(raw)
        refuse_masks(numbered, params.instances)
    images = numbered.raw.images
    # The captions are tokenized while the first pictures are opened.
    with inspection(images, pictures.folder, workers) as facts, no_circles():
        captions = caption_records(raw.captions, numbered.raw.captions, segmenter)
        checked = gather(images, facts, pictures.place)
    if params.on_bad_image == "fail":
        refuse_bad_images(checked.bad, pictures.folder)
    refuse_same_pictures(checked.good, numbered.moved)
    left_out = {image.image_id for image, _ in checked.bad}
    kept = [image for image in images if image.image_id not in left_out]
    check_splits_filled(kept)
    captions = [caption for caption in captions if caption.image_id not in left_out]
    instances = read_instance_files(root, params.instances, checked.good)
    notes = numbered.raw.notes + links_out(kept, pictures.folder)
    return Reading(Dataset(checked.good, captions, instances, report={}), checked.bad, notes, read)


def _check_folders(params: UserDataset, root: Path) -> None:
    if not root.is_dir():
        raise UserError(
            f"dataset.root: there is no folder {root}; put the dataset or a link to it there, "
            "or give its path with -S dataset.root=/path/to/it"
        )
    for name in image_folders(params):
        if not (root / name).is_dir():
            raise UserError(
                f"dataset.images: there is no folder {root / name}; name the folder of the images below "
                f"{root}"
            )


def image_folders(params: UserDataset) -> list[str]:
    """The folders of the images below root."""
    if isinstance(params, M2Dataset):
        return [source.images for source in params.m2.sources]
    images = _images(params)
    return [images] if isinstance(images, str) else [images.train, images.val, images.test]


def file_names_root(params: UserDataset) -> Path:
    """The folder that file names of images are relative to."""
    root = Path(params.root)
    images = _images(params)
    return root / images if isinstance(images, str) else root


def folders_below(params: UserDataset) -> list[str]:
    """The same folders relative to `file_names_root`; none if the pictures come from tar files."""
    if isinstance(params, ShardDataset):
        return []
    one = not isinstance(params, M2Dataset) and isinstance(params.images, str)
    return ["."] if one else image_folders(params)


def _images(params: UserDataset) -> str | PerSplit:
    """The folder of the images, or one per split; root itself where the lists name the folders below it."""
    return "." if isinstance(params, M2Dataset | ShardDataset) else params.images


def _read_lists(params: UserDataset, root: Path, *, place: Path, folder: Path) -> tuple[RawDataset, Pictures]:
    """The contents of the lists, checked against the contract, and where the pictures are."""
    if isinstance(params, ShardDataset):
        shards = read_shards(root, params.shards)
        check_contract(shards.raw)
        unpack_pictures(shards, folder / "images")
        return shards.raw, Pictures(folder / "images", place / "images")
    raw = read_files(params, root)
    check_contract(raw)
    start = file_names_root(params)
    return raw, Pictures(start, start)


def read_files(params: UserDataset, root: Path) -> RawDataset:
    """Read the lists with the reader of their format."""
    form = FORMATS[params.format]
    assert form.read is not None, "the pictures of the other formats are made first"
    raw = form.read(params, root)
    return located(raw, file_names_root(params)) if form.by_coco_name else raw


def caption_records(
    captions: list[RawCaption], numbered: list[RawCaption] | None = None, segmenter: Segmenter = "ptb"
) -> list[CaptionRecord]:
    """Divide all captions into words; `numbered`: the same captions with the records' ids, if those differ.

    Raises:
        UserError: captions without a word (empty, blanks or punctuation only), all listed.
    """
    records = [
        # Equal tokens are one object: at COCO's size that saves 0.4 GB.
        CaptionRecord(
            caption.image_id,
            caption.annotation_id,
            caption.text,
            list(map(intern, segment(caption.text, segmenter))),
        )
        for caption in (captions if numbered is None else numbered)
    ]
    empty = [raw for raw, record in zip(captions, records, strict=True) if not record.tokens]
    if empty:
        raise UserError(
            "captions without a word: "
            + listed(
                [
                    f"annotation {raw.annotation_id} of image {raw.image_id} in {raw.source} ({raw.text!r})"
                    for raw in empty
                ]
            )
            + "; write or remove them"
        )
    return records
