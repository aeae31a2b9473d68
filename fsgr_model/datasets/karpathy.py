"""Reader of Karpathy's dataset_{coco,flickr8k,flickr30k}.json (Karpathy and Fei-Fei, arXiv 1412.2306)."""

from pathlib import Path
from typing import Any, Literal

from pydantic.dataclasses import dataclass

from fsgr_model.datasets.normal_form import Split
from fsgr_model.datasets.numbering import fill_missing_ids
from fsgr_model.datasets.raw_form import RawCaption, RawDataset, RawImage
from fsgr_model.runtime.artifacts import load_json
from fsgr_model.runtime.checked_json import Id, checked
from fsgr_model.runtime.errors import UserError
from fsgr_model.runtime.listing import listed

# restval: the part of COCO's validation images that the split uses for training.
SPLIT_OF: dict[str, Split] = {"train": "train", "restval": "train", "val": "val", "test": "test"}
# What is read of the file. Without the rest, the words of each sentence above all, a third of the memory is
# enough.
KEYS = ("images", "filename", "filepath", "split", "sentences", "imgid", "cocoid", "raw", "sentid")


@dataclass(slots=True)
class KarpathySentence:
    raw: str
    sentid: Id | None = None


@dataclass(slots=True)
class KarpathyImage:
    filename: str
    split: Literal["train", "restval", "val", "test"]
    sentences: list[KarpathySentence]
    imgid: Id
    cocoid: Id | None = None
    filepath: str = ""

    @property
    def place(self) -> str:
        return f"{self.filepath}/{self.filename}" if self.filepath else self.filename


@dataclass(slots=True)
class KarpathyFile:
    images: list[KarpathyImage]


def read_karpathy(root: Path, name: str) -> RawDataset:
    """All images and captions of the file `name` below `root`; image ids are `cocoid` where the file has it.

    Raises:
        UserError: the file is missing, is not JSON or of this form, or has `cocoid` for some images only.
    """
    return karpathy_dataset(load_json(root / name, KEYS), root / name, name)


def karpathy_dataset(value: Any, path: Path, name: str) -> RawDataset:
    """As `read_karpathy`, from the parsed file `path`; `name` is its name in messages and notes.

    Raises:
        UserError: as `read_karpathy`, except for a missing file.
    """
    entries = checked(value, KarpathyFile, path).images
    without_cocoid = [entry.imgid for entry in entries if entry.cocoid is None]
    if 0 < len(without_cocoid) < len(entries):
        raise UserError(
            f"{path}: give every image a cocoid or none; missing for imgid {listed(without_cocoid)}"
        )
    dataset = RawDataset([], [])
    sentids = [sentence.sentid for entry in entries for sentence in entry.sentences]
    annotation_ids = iter(fill_missing_ids(sentids))
    if None in sentids:
        dataset.notes.append(
            f"{name}: {sentids.count(None)} of {len(sentids)} sentences have no sentid; numbered"
        )
    for entry in entries:
        image_id = entry.imgid if entry.cocoid is None else entry.cocoid
        dataset.images.append(RawImage(image_id, SPLIT_OF[entry.split], entry.place, name))
        dataset.captions.extend(
            RawCaption(image_id, next(annotation_ids), sentence.raw, name) for sentence in entry.sentences
        )
    return dataset
