"""Result files as evaluation servers want them: COCO (arXiv 1504.00325) and nocaps (arXiv 1812.08658)."""

import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from typing_extensions import TypedDict

from fsgr_model.artifacts import parse_json, read_text, save_json
from fsgr_model.datasets.checked_json import Id, read_checked
from fsgr_model.datasets.listing import listed
from fsgr_model.errors import UserError
from fsgr_model.scoring.coco_files import read_results


@dataclass(frozen=True)
class Server:
    """What a result file must be called, and how many images the server has in it."""

    file_name: str
    images: int


SERVERS = {
    "val2014": Server("captions_val2014_{}_results.json", 40_504),
    "test2014": Server("captions_test2014_{}_results.json", 40_775),
    "nocaps_val": Server("nocaps_val_{}_results.json", 4_500),
    "nocaps_test": Server("nocaps_test_{}_results.json", 10_600),
}
# The servers take the name out of the file name, between underscores.
NAME = re.compile(r"[A-Za-z0-9.-]+")


class _Image(TypedDict):
    id: Id
    file_name: str


class _ImageList(TypedDict):
    images: list[_Image]


def write_results(captions: Path, images: Path, split: str, name: str, folder: Path) -> Path:
    """Write a caption for each image of the list `images`, under the name that the server asks for.

    Args:
        captions: a COCO result file, or the JSON lines of `python -m pipeline.caption --json`.
        images: JSON with `images`, each with `id` and `file_name`, as COCO and nocaps give them out.
        split: one of SERVERS.
        name: of your method.

    Raises:
        UserError: an image without a caption or with two, a caption of an unknown image or without a word, or
            a name with other signs than letters, digits, hyphens and full stops.
    """
    if not NAME.fullmatch(name):
        raise UserError(f"the name {name!r} may hold letters, digits, hyphens and full stops only")
    listed_images = read_checked(images, _ImageList)["images"]
    id_of = {Path(image["file_name"]).name: image["id"] for image in listed_images}
    spoken = read_lines(captions, id_of) if is_lines(captions) else read_results(captions)
    _check(spoken, {image["id"] for image in listed_images}, captions, images)
    path = folder / SERVERS[split].file_name.format(name)
    rows = [{"image_id": image_id, "caption": spoken[image_id]} for image_id in sorted(spoken)]
    save_json(path, rows, indent=None)
    return path


def is_lines(path: Path) -> bool:
    """Whether a file begins like JSON lines of objects; a result file begins with a list.

    Raises:
        UserError: it does not exist or cannot be read.
    """
    return read_text(path).startswith("{")


def read_lines(path: Path, id_of: dict[str, int]) -> dict[int, str]:
    """Captions by image id from JSON lines with `path` and `caption`; images are known by their file names.

    Raises:
        UserError: a line is damaged, an image has two captions, or is not in the list.
    """
    rows = []
    for number, line in enumerate(read_text(path).split("\n"), start=1):
        if not line.strip():
            continue
        try:
            row = parse_json(line, str(path))
            rows.append((Path(row["path"]).name, str(row["caption"])))
        except (UserError, KeyError, TypeError):
            raise UserError(
                f"{path}, line {number} is no caption of pipeline.caption --json; run it again"
            ) from None
    strangers = sorted({name for name, _ in rows} - id_of.keys())
    if strangers:
        raise UserError(f"{path}: captions of images that the list does not name: {listed(strangers)}")
    repeated = sorted(name for name, count in Counter(name for name, _ in rows).items() if count > 1)
    if repeated:
        raise UserError(f"{path}: images with more than one caption: {listed(repeated)}; do without --sample")
    return {id_of[name]: caption for name, caption in rows}


def _check(spoken: dict[int, str], wanted: set[int], captions: Path, images: Path) -> None:
    """One caption with a word in it for each image of the list, and no other."""
    problems = (
        (sorted(wanted - spoken.keys()), f"images of {images} without a caption"),
        (sorted(spoken.keys() - wanted), f"captions of images that {images} does not list"),
        (sorted(image_id for image_id in spoken if not spoken[image_id].strip()), "captions without a word"),
    )
    found = [f"{len(ids)} {what}: {listed(ids)}" for ids, what in problems if ids]
    if found:
        raise UserError(f"{captions}: the server wants one caption for every image; {'; '.join(found)}")
