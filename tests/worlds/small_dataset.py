"""A dataset of six small pictures on disk, in COCO and in Karpathy form, for tests to break."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from pydantic import BaseModel

from fsgr_model.config.dataset_params import KIND_OF_FORMAT, DatasetParams, DemoDataset, UserDataset
from pipeline.dataset import build_dataset

FILES = {split: f"captions_{split}.json" for split in ("train", "val", "test")}
IMAGE_IDS = {"train": (11, 12, 13, 14), "val": (21,), "test": (31,)}


class _File(BaseModel):
    dataset: DatasetParams


def dataset_params(values: dict[str, Any]) -> DemoDataset | UserDataset:
    """A section `dataset` of params.yaml by itself."""
    return _File.model_validate({"dataset": values}).dataset


def section_of(root: Path, **changes: Any) -> UserDataset:
    """The section of such a dataset with changes, and without what its format does not have."""
    values = {
        "format": "coco",
        "root": str(root),
        "watch": ".",
        "images": "images",
        "captions": FILES,
        "seed": 42,
    }
    known = KIND_OF_FORMAT[changes.get("format", "coco")].model_fields
    params = dataset_params({name: value for name, value in values.items() if name in known} | changes)
    assert not isinstance(params, DemoDataset)
    return params


class SmallDataset:
    """`files` are the caption files' contents, to be changed before `write`; images are named by their id."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.files = {split: _caption_file(IMAGE_IDS[split]) for split in FILES}
        (root / "images").mkdir(parents=True)
        for image_id in sum(IMAGE_IDS.values(), ()):
            draw_noise(root / "images" / f"{image_id}.png", image_id)

    def write(self) -> "SmallDataset":
        for split, name in FILES.items():
            (self.root / name).write_text(json.dumps(self.files[split]))
        return self

    def params(self, **changes: Any) -> UserDataset:
        return section_of(**{"root": self.root, **changes})

    def build(self, workers: int = 0, **changes: Any) -> Path:
        """Write the files, run the stage's function, return the folder that it makes."""
        return self.write().build_written(workers, **changes)

    def build_written(self, workers: int = 0, **changes: Any) -> Path:
        place = self.root.parent / "made" / "dataset"
        build_dataset(self.params(**changes), place, workers)
        return place


def draw_noise(path: Path, number: int) -> None:
    pixels = np.random.default_rng(number).integers(0, 256, (9, 12, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)


def write_instances(root: Path, image_ids: list[int], name: str = "{}.png") -> None:
    """One dog an image, in `instances.json`."""
    content = {
        "images": [
            {"id": each, "file_name": name.format(each), "width": 12, "height": 9} for each in image_ids
        ],
        "categories": [{"id": 1, "name": "dog"}],
        "annotations": [
            {"id": each, "image_id": each, "category_id": 1, "segmentation": [[0, 0, 5, 0, 5, 5]]}
            for each in image_ids
        ],
    }
    (root / "instances.json").write_text(json.dumps(content))


def _caption_file(image_ids: tuple[int, ...]) -> dict[str, list[dict[str, Any]]]:
    """Two captions per image; annotation ids are ten times the image id, and one more."""
    return {
        "images": [{"id": image_id, "file_name": f"{image_id}.png"} for image_id in image_ids],
        "annotations": [
            {
                "id": 10 * image_id + number,
                "image_id": image_id,
                "caption": f"A {colour} dog, number {image_id}.",
            }
            for image_id in image_ids
            for number, colour in enumerate(("red", "blue"))
        ],
    }


def karpathy_entry(image_id: int, split: str, **changes: Any) -> dict[str, Any]:
    """An entry of dataset_coco.json: `cocoid` is the image id, `imgid` counts from 0 in the file."""
    sentences = [{"raw": f"A dog, number {image_id}.", "sentid": 100 + image_id, "imgid": 0, "tokens": ["a"]}]
    entry = {"filename": f"{image_id}.png", "split": split, "imgid": image_id - 11, "cocoid": image_id}
    return entry | {"filepath": "images", "sentences": sentences} | changes
