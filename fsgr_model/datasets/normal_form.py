"""The form that every dataset is converted to: later stages depend on no particular dataset.

`data/dataset/` holds
- `images.json`     one `ImageRecord` per image, sorted by image id: the manifest;
- `captions.json`   one `CaptionRecord` per caption, sorted by (image id, annotation id);
- `tokens.npz`      the tokens of `captions.json` once more, as arrays;
- `instances.json`  COCO `categories` and `annotations` (RLE masks), both empty if none are known; and
                    `images`, the ids that the mask files list, only if these are a part of all;
- `report.json`     what was found and left out: counts, bad images, duplicates;
- `*.sha256`        checksums of the first four, which are verified when these are read;
- `images/`         the pictures that the stage writes itself (the demo, tar files), else empty;
- `pretraining/`    the same files for the pictures that only the demo's CLIP trains on, else empty.

Each of them is an output of its own in dvc.yaml: a stage depends on the lists that it reads, and DVC finds
them in its cache even if the lock file comes from another machine.
"""

from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from fsgr_model.datasets.token_file import TOKENS, Tokens, load_tokens, save_tokens
from fsgr_model.runtime.artifacts import (
    load_checked_json,
    load_json_and_sum,
    save_json,
    save_rows,
    write_checksum,
)
from fsgr_model.text.caption_table import WordTable

# The files that later stages read; their checksums are in the same folder.
LISTS = IMAGES, CAPTIONS, INSTANCES = ("images.json", "captions.json", "instances.json")
PICTURES, PRETRAINING = "images", "pretraining"
AGAIN = "run dvc repro -f dataset"

Split = Literal["train", "val", "test"]
SPLITS: tuple[Split, ...] = ("train", "val", "test")


@dataclass(frozen=True)
class ImageRecord:
    """One image: its path, its bytes and its split. `path` starts at the project root or is absolute.

    `domain` names the part of a split that is also scored separately (seen and unseen in the demo).
    """

    image_id: int
    split: Split
    path: str
    width: int
    height: int
    bytes: int
    sha256: str
    domain: str = ""


@dataclass(frozen=True)
class CaptionRecord:
    """One caption: raw `text` as written, and its words as `text.tokenizer` divides it."""

    image_id: int
    annotation_id: int
    text: str
    tokens: list[str]


@dataclass(frozen=True)
class Dataset:
    """Everything a dataset reader returns. `instances` is a COCO dict with `categories` and `annotations`."""

    images: list[ImageRecord]
    captions: list[CaptionRecord]
    instances: dict[str, list[dict[str, Any]]]
    report: dict[str, Any]


@dataclass(frozen=True)
class Lists:
    """The manifest and the captions, each read once, and the SHA-256 of their files."""

    images: list[ImageRecord]
    captions: dict[int, list[CaptionRecord]]
    images_sha256: str
    captions_sha256: str

    def images_of(self, split: Split) -> list[ImageRecord]:
        """The images of a split, by ascending id."""
        return [image for image in self.images if image.split == split]


def write_dataset(folder: Path, dataset: Dataset) -> None:
    """Write the files of the normal form, sorted so that equal datasets give equal bytes."""
    images = sorted(dataset.images, key=lambda image: image.image_id)
    captions = sorted(dataset.captions, key=lambda caption: (caption.image_id, caption.annotation_id))
    save_rows(folder / IMAGES, map(vars, images))
    save_rows(folder / CAPTIONS, map(vars, captions))
    splits = {image.image_id: SPLITS.index(image.split) for image in images}
    of_images = [(each.image_id, each.tokens) for each in captions if each.image_id in splits]
    save_tokens(folder / TOKENS, splits, of_images)
    save_json(folder / INSTANCES, dataset.instances, indent=None)
    save_json(folder / "report.json", dataset.report)
    for name in (*LISTS, TOKENS):
        write_checksum(folder / name)


def read_images(folder: Path, split: Split | None = None) -> list[ImageRecord]:
    """The manifest of one split or of all, sorted by image id."""
    records = _images(_load(folder / IMAGES))
    return [record for record in records if split is None or record.split == split]


def read_captions(folder: Path) -> dict[int, list[CaptionRecord]]:
    """Captions by image id, each list sorted by annotation id."""
    return _captions(_load(folder / CAPTIONS))


def read_tokens(folder: Path) -> Tokens:
    """The tokens of the captions of all images.

    Raises:
        UserError: the file is missing, or not as it was written.
    """
    return load_tokens(folder / TOKENS, AGAIN)


def tokens_of(tokens: Tokens, split: Split) -> WordTable:
    """The tokens of every caption of every image of a split, by ascending id of the image."""
    return tokens.of_split(SPLITS.index(split))


def read_lists(folder: Path) -> Lists:
    """The manifest and the captions together.

    Raises:
        UserError: a file is missing, or not as it was written.
    """
    images, images_sha256 = load_json_and_sum(folder / IMAGES, AGAIN)
    captions, captions_sha256 = load_json_and_sum(folder / CAPTIONS, AGAIN)
    return Lists(_images(images), _captions(captions), images_sha256, captions_sha256)


def read_instances(folder: Path) -> dict[str, list[dict[str, Any]]]:
    """COCO `categories` and `annotations`; both empty lists where the dataset has no instances.

    It also has `images`, objects with an `id`, if the mask files list only a part of the images.
    """
    return _load(folder / INSTANCES)


def _images(rows: list[dict[str, Any]]) -> list[ImageRecord]:
    return [ImageRecord(**row) for row in rows]


def _captions(rows: list[dict[str, Any]]) -> dict[int, list[CaptionRecord]]:
    by_image: dict[int, list[CaptionRecord]] = defaultdict(list)
    for row in rows:
        by_image[row["image_id"]].append(CaptionRecord(**row))
    return dict(by_image)


def _load(path: Path) -> Any:
    return load_checked_json(path, AGAIN)
