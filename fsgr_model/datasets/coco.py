"""Reader of COCO-style caption files, one a split (Microsoft COCO Captions, arXiv 1504.00325)."""

from pathlib import Path

from pydantic.dataclasses import dataclass

from fsgr_model.datasets.checked_json import Id, read_checked
from fsgr_model.datasets.normal_form import SPLITS
from fsgr_model.datasets.raw_form import RawCaption, RawDataset, RawImage
from fsgr_model.params import CaptionFiles


@dataclass(slots=True)
class CocoImage:
    id: Id
    file_name: str


@dataclass(slots=True)
class CocoCaption:
    id: Id
    image_id: Id
    caption: str


@dataclass(slots=True)
class CocoCaptionFile:
    images: list[CocoImage]
    annotations: list[CocoCaption]


def read_coco(root: Path, files: CaptionFiles) -> RawDataset:
    """The images and captions of the three files below `root`.

    Raises:
        UserError: a file is missing, no JSON, or not of the COCO caption form.
    """
    dataset = RawDataset([], [])
    for split in SPLITS:
        name = getattr(files, split)
        content = read_checked(root / name, CocoCaptionFile)
        dataset.images.extend(RawImage(image.id, split, image.file_name, name) for image in content.images)
        dataset.captions.extend(
            RawCaption(entry.image_id, entry.id, entry.caption, name) for entry in content.annotations
        )
    return dataset
