"""COCO's pictures in the lists of other datasets: their ids and their paths.

The release of 2014 calls a picture `val2014/COCO_val2014_000000000042.jpg`, that of 2017, which splits the
same pictures differently, `train2017/000000000042.jpg` (cocodataset.org, 2017 train/val). The digits are the
id.
"""

import errno
import re
from dataclasses import replace
from pathlib import Path, PurePosixPath

from fsgr_model.datasets.raw_form import RawDataset

NAME = re.compile(r"(?:COCO_(?:train|val|test)20\d\d_)?(?P<id>\d{12})\.jpe?g", re.IGNORECASE)
# Tried in this order below the folder of the images, if a picture is not at the path in its list.
PLACES = (
    "train2017/{}.jpg",
    "val2017/{}.jpg",
    "{}.jpg",
    "train2014/COCO_train2014_{}.jpg",
    "val2014/COCO_val2014_{}.jpg",
    "COCO_train2014_{}.jpg",
    "COCO_val2014_{}.jpg",
)


def coco_id(file_name: str) -> int | None:
    """The id in a name of COCO's releases; None for any other name."""
    found = NAME.fullmatch(PurePosixPath(file_name.replace("\\", "/")).name)
    return int(found["id"]) if found else None


def located(dataset: RawDataset, folder: Path) -> RawDataset:
    """The dataset with the actual paths of COCO's pictures below `folder`, under the names of either release.

    A picture that is not found keeps its path, and is later reported as missing.
    """
    images, found = [], dict.fromkeys(PLACES, 0)
    for image in dataset.images:
        number = coco_id(image.file_name)
        if number is not None and not _is_file(folder / image.file_name):
            for place in PLACES:
                name = place.format(f"{number:012d}")
                if _is_file(folder / name):
                    image, found[place] = replace(image, file_name=name), found[place] + 1
                    break
        images.append(image)
    notes = [
        f"{count} pictures are not where their list says, but where COCO's releases have them: "
        + place.format("<id>")
        for place, count in found.items()
        if count
    ]
    return replace(dataset, images=images, notes=dataset.notes + notes)


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except ValueError:  # the contract reports names that no file can have
        return False
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            return False
        raise
