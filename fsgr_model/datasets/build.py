"""From the user's files, or the demo's world, to `data/dataset/` in the normal form."""

from dataclasses import replace
from pathlib import Path

from fsgr_model.artifacts import whole_folder
from fsgr_model.datasets.coco import read_coco
from fsgr_model.datasets.contract import check_contract, check_splits_filled
from fsgr_model.datasets.demo.world import draw_demo_world
from fsgr_model.datasets.image_check import (
    check_images,
    duplicate_groups,
    refuse_bad_images,
    refuse_duplicates,
)
from fsgr_model.datasets.instances import read_instance_files
from fsgr_model.datasets.karpathy import read_karpathy
from fsgr_model.datasets.listing import listed
from fsgr_model.datasets.normal_form import CaptionRecord, Dataset, write_dataset
from fsgr_model.datasets.raw_form import RawCaption, RawDataset, RawImage
from fsgr_model.datasets.report import dataset_report, print_summary
from fsgr_model.errors import UserError
from fsgr_model.params import DatasetParams
from fsgr_model.text.ptb_tokenizer import ptb_tokenize


def build_dataset(params: DatasetParams, seed: int, place: Path, workers: int) -> None:
    """Make the folder `place`, whole or not at all; `workers` processes decode images.

    Raises:
        UserError: the files break a rule of the contract; nothing is written then.
    """
    with whole_folder(place) as folder:
        dataset, bad = (
            _demo(params, seed, place, folder) if params.format == "demo" else _read(params, workers)
        )
        groups = duplicate_groups(dataset.images)
        if params.on_duplicate_image == "fail":
            refuse_duplicates(groups)
        dataset = replace(dataset, report=dataset_report(dataset, bad, groups))
        write_dataset(folder, dataset)
    print_summary(dataset.report, groups, place)


def _demo(
    params: DatasetParams, seed: int, place: Path, folder: Path
) -> tuple[Dataset, list[tuple[RawImage, str]]]:
    assert params.demo is not None
    world = Path(params.root) / params.watch
    return draw_demo_world(world, params.demo, seed, folder, place.as_posix()), []


def _read(params: DatasetParams, workers: int) -> tuple[Dataset, list[tuple[RawImage, str]]]:
    """The user's dataset, and the images that were left out with the reasons."""
    root = Path(params.root)
    folder = root / params.images
    _check_folders(root, folder)
    raw = _read_lists(params, root)
    check_contract(raw)
    captions = caption_records(raw.captions)
    checked = check_images(raw.images, folder, workers)
    if params.on_bad_image == "fail":
        refuse_bad_images(checked.bad, folder)
    left_out = {image.image_id for image, _ in checked.bad}
    check_splits_filled([image for image in raw.images if image.image_id not in left_out])
    captions = [caption for caption in captions if caption.image_id not in left_out]
    instances = read_instance_files(root, params.instances, checked.good)
    return Dataset(checked.good, captions, instances, report={}), checked.bad


def _check_folders(root: Path, images: Path) -> None:
    if not root.is_dir():
        raise UserError(
            f"dataset.root: there is no folder {root}; put the dataset or a link to it there, "
            "or give its place with -S dataset.root=/path/to/it"
        )
    if not images.is_dir():
        raise UserError(
            f"dataset.images: there is no folder {images}; name the folder of the images below {root}"
        )


def _read_lists(params: DatasetParams, root: Path) -> RawDataset:
    if params.format == "coco":
        assert params.captions is not None
        return read_coco(root, params.captions)
    assert params.karpathy_file is not None
    return read_karpathy(root, params.karpathy_file)


def caption_records(captions: list[RawCaption]) -> list[CaptionRecord]:
    """Tokenize all captions.

    Raises:
        UserError: captions without a word (empty, blanks or punctuation only), all listed.
    """
    records = [
        CaptionRecord(caption.image_id, caption.annotation_id, caption.text, ptb_tokenize(caption.text))
        for caption in captions
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
