"""Converts the user's files to the normal form: first their lists and the contract, then the pictures."""

from dataclasses import dataclass, field
from pathlib import Path
from sys import intern
from typing import Any

from fsgr_model.config.dataset_params import DatasetParams, PerSplit
from fsgr_model.datasets.caption_lists import READERS as LISTS
from fsgr_model.datasets.caption_lists import read_lists
from fsgr_model.datasets.coco import read_coco
from fsgr_model.datasets.coco_pictures import located
from fsgr_model.datasets.contract import check_contract, check_splits_filled
from fsgr_model.datasets.image_check import check_images, links_out, refuse_bad_images
from fsgr_model.datasets.instances import read_instance_files
from fsgr_model.datasets.karpathy import read_karpathy
from fsgr_model.datasets.m2 import read_m2
from fsgr_model.datasets.nocaps import read_nocaps
from fsgr_model.datasets.normal_form import CaptionRecord, Dataset
from fsgr_model.datasets.numbering import make_ids_unique, refuse_masks, refuse_same_pictures
from fsgr_model.datasets.picture_folders import count_read
from fsgr_model.datasets.raw_form import RawCaption, RawDataset, RawImage
from fsgr_model.datasets.shards import read_shards, unpack_pictures
from fsgr_model.datasets.table import read_table
from fsgr_model.runtime.errors import UserError
from fsgr_model.runtime.listing import listed
from fsgr_model.text.ptb_tokenizer import ptb_tokenize

# Lists of these formats use picture names of one COCO release; those of the other denote the same pictures.
BY_COCO_NAME = (*LISTS, "karpathy", "folder")


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


def read_dataset(params: DatasetParams, place: Path, folder: Path, workers: int) -> Reading:
    """Read what `params` names; pictures of tar files are unpacked to `folder`, which will become `place`.

    Raises:
        UserError: the files break a rule of the contract.
    """
    root = Path(params.root)
    _check_folders(params, root)
    raw, pictures = _read_lists(params, root, place=place, folder=folder)
    read = count_read(raw, pictures.folder, folders_below(params))
    numbered = make_ids_unique(raw)
    refuse_masks(numbered, params.instances)
    captions = caption_records(raw.captions, numbered.raw.captions)
    raw = numbered.raw
    checked = check_images(raw.images, pictures.folder, workers, pictures.place)
    if params.on_bad_image == "fail":
        refuse_bad_images(checked.bad, pictures.folder)
    refuse_same_pictures(checked.good, numbered.moved)
    left_out = {image.image_id for image, _ in checked.bad}
    kept = [image for image in raw.images if image.image_id not in left_out]
    check_splits_filled(kept)
    captions = [caption for caption in captions if caption.image_id not in left_out]
    instances = read_instance_files(root, params.instances, checked.good)
    notes = raw.notes + links_out(kept, pictures.folder)
    return Reading(Dataset(checked.good, captions, instances, report={}), checked.bad, notes, read)


def _check_folders(params: DatasetParams, root: Path) -> None:
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


def image_folders(params: DatasetParams) -> list[str]:
    """The folders of the images below root."""
    if params.m2 and params.format == "m2":
        return [source.images for source in params.m2.sources]
    if isinstance(params.images, PerSplit):
        return [params.images.train, params.images.val, params.images.test]
    return [params.images]


def file_names_root(params: DatasetParams) -> Path:
    """The folder that file names of images are relative to."""
    root = Path(params.root)
    return root / params.images if isinstance(params.images, str) else root


def folders_below(params: DatasetParams) -> list[str]:
    """The same folders relative to `file_names_root`; none if the pictures come from tar files."""
    if params.format == "webdataset":
        return []
    return ["."] if params.format != "m2" and isinstance(params.images, str) else image_folders(params)


def _read_lists(
    params: DatasetParams, root: Path, *, place: Path, folder: Path
) -> tuple[RawDataset, Pictures]:
    """The contents of the lists, checked against the contract, and where the pictures are."""
    if params.format == "webdataset":
        assert params.shards is not None
        shards = read_shards(root, params.shards)
        check_contract(shards.raw)
        unpack_pictures(shards, folder / "images")
        return shards.raw, Pictures(folder / "images", place / "images")
    raw = read_files(params, root)
    check_contract(raw)
    start = file_names_root(params)
    return raw, Pictures(start, start)


def read_files(params: DatasetParams, root: Path) -> RawDataset:
    """Read the lists with the reader of their format."""
    folders = params.images if isinstance(params.images, PerSplit) else None
    if params.format in BY_COCO_NAME:
        return located(_read(params, root, folders), file_names_root(params))
    return _read(params, root, folders)


def _read(params: DatasetParams, root: Path, folders: PerSplit | None) -> RawDataset:
    if params.format == "coco" and params.captions:
        return read_coco(root, params.captions, folders)
    if params.format == "nocaps" and params.captions:
        return read_nocaps(root, params.captions, folders)
    if params.format in LISTS and params.captions:
        return read_lists(params.format, root, params.captions, folders)
    if params.format == "karpathy" and params.karpathy_file:
        return read_karpathy(root, params.karpathy_file)
    if params.format == "m2" and params.m2:
        return read_m2(root, params.m2)
    assert params.format == "folder" and params.table, "DatasetParams sees to it"
    return read_table(root, params.table, params.seed, params.images)


def caption_records(
    captions: list[RawCaption], numbered: list[RawCaption] | None = None
) -> list[CaptionRecord]:
    """Tokenize all captions; `numbered`: the same captions with the ids of the records, if those differ.

    Raises:
        UserError: captions without a word (empty, blanks or punctuation only), all listed.
    """
    records = [
        # Equal tokens are one object: at COCO's size that saves 0.4 GB.
        CaptionRecord(
            caption.image_id,
            caption.annotation_id,
            caption.text,
            list(map(intern, ptb_tokenize(caption.text))),
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
