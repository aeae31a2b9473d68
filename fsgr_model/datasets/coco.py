"""Reader of COCO-style caption files, one per split (Microsoft COCO Captions, arXiv 1504.00325).

VizWiz's files have this form too; their canned and rejected captions are left out.
"""

from pathlib import Path

from pydantic.dataclasses import dataclass

from fsgr_model.config.dataset_params import PerSplit
from fsgr_model.datasets.caption_lists import refuse_list
from fsgr_model.datasets.normal_form import SPLITS
from fsgr_model.datasets.numbering import fill_missing_ids
from fsgr_model.datasets.raw_form import RawCaption, RawDataset, RawImage
from fsgr_model.datasets.vizwiz import sift
from fsgr_model.runtime.artifacts import load_json
from fsgr_model.runtime.checked_json import Id, checked
from fsgr_model.runtime.errors import UserError


@dataclass(slots=True)
class CocoImage:
    id: Id
    file_name: str
    domain: str = ""


@dataclass(slots=True)
class CocoCaption:
    """`id` is None if the file has none, as in many files that were made for one program only."""

    image_id: Id
    caption: str
    id: Id | None = None
    is_precanned: bool | None = None
    is_rejected: bool | None = None


@dataclass(slots=True)
class CocoCaptionFile:
    """`annotations` is None if the file has no such list: image_info_test2014.json and its like."""

    images: list[CocoImage]
    annotations: list[CocoCaption] | None = None


def read_coco(root: Path, files: PerSplit, folders: PerSplit | None) -> RawDataset:
    """The images and captions of the three files below `root`.

    Ids are those of the files; annotations without one are numbered in their file. File names are relative to
    the folder of their split in `folders`, if that is given. The test file may lack `annotations`: its images
    are then captioned, not scored.

    Raises:
        UserError: a file is missing, is not JSON, or is not a COCO caption file.
    """
    dataset = RawDataset([], [])
    for split in SPLITS:
        name = getattr(files, split)
        found = load_json(root / name)
        refuse_list(root / name, found)
        content = checked(found, CocoCaptionFile, root / name)
        if content.annotations is None and split != "test":
            raise UserError(
                f"{root / name}: annotations: missing; only the test file may be without captions"
            )
        start = f"{getattr(folders, split)}/" if folders else ""
        sifted = sift(content.annotations or [])
        dataset.images.extend(
            RawImage(image.id, split, start + image.file_name, name, image.domain)
            for image in content.images
            if image.id not in sifted.bare
        )
        ids = fill_missing_ids(entry.id for entry in sifted.captions)
        dataset.captions.extend(
            RawCaption(entry.image_id, number, entry.caption, name)
            for number, entry in zip(ids, sifted.captions, strict=True)
        )
        if note := sifted.note(name):
            dataset.notes.append(note)
        without = sum(entry.id is None for entry in sifted.captions)
        if without:
            dataset.notes.append(
                f"{name}: {without} of {len(sifted.captions)} annotations have no id; numbered from 1"
            )
    return dataset
