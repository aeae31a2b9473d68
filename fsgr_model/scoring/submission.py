"""Result files in the form of the evaluation servers of COCO (arXiv 1504.00325) and nocaps (1812.08658)."""

import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from typing_extensions import TypedDict

from fsgr_model.runtime.artifacts import parse_json, read_text, save_json
from fsgr_model.runtime.checked_json import Id, checked
from fsgr_model.runtime.errors import UserError
from fsgr_model.runtime.listing import listed
from fsgr_model.scoring.caption_tokens import tokens_of
from fsgr_model.scoring.file_kinds import kind_of
from fsgr_model.scoring.result_file import json_of, looks_like_lines, read_json, results_of
from fsgr_model.scoring.same_images import check_any_shared


@dataclass(frozen=True)
class Server:
    """The required name of a result file, and the number of images that the server expects."""

    file_name: str
    images: int


SERVERS = {
    "val2014": Server("captions_val2014_{}_results.json", 40_504),
    "test2014": Server("captions_test2014_{}_results.json", 40_775),
    "nocaps_val": Server("nocaps_val_{}_results.json", 4_500),
    "nocaps_test": Server("nocaps_test_{}_results.json", 10_600),
}
# COCO's release of 2014 writes COCO_val2014_000000000042.jpg, that of 2017 000000000042.jpg.
NAME_OF_2014 = re.compile(r"COCO_(?:train|val|test)2014_(?=\d{12}\.)")
LIST_FORM = "a list of images has `images`, each with `id` and `file_name`"
# The servers take the name out of the file name, between underscores.
NAME = re.compile(r"[A-Za-z0-9.-]+")


class _Image(TypedDict):
    id: Id
    file_name: str


class _ImageList(TypedDict):
    images: list[_Image]


def write_results(captions: Path, *, images: Path, split: str, name: str, folder: Path) -> Path:
    """Write a caption for each image of the list `images`, under the name that the server asks for.

    Args:
        captions: a COCO result file, or the JSON lines of `fsgr caption --json`.
        images: JSON with `images`, each with `id` and `file_name`, as COCO and nocaps give them out.
        split: one of SERVERS.
        name: of your method.

    Raises:
        UserError: an image without a caption or with two, a caption of an unknown image or without a word, or
            a name with characters other than letters, digits, hyphens and full stops.
    """
    if not NAME.fullmatch(name):
        raise UserError(f"the name {name!r} may contain letters, digits, hyphens and full stops only")
    names = ImageNames(images)
    text = read_text(captions)
    spoken = (
        read_lines(text, captions, names) if is_lines(text) else results_of(json_of(text, captions), captions)
    )
    _check(spoken, names.ids, captions, images)
    path = folder / SERVERS[split].file_name.format(name)
    rows = [{"image_id": image_id, "caption": spoken[image_id]} for image_id in sorted(spoken)]
    save_json(path, rows, indent=None)
    return path


class ImageNames:
    """The list of images in a JSON file: finds an image by the path of its picture.

    Raises:
        UserError: the file lists no images, or one id or one file name twice.
    """

    def __init__(self, path: Path) -> None:
        value = read_json(path, LIST_FORM)
        if not isinstance(value, dict) or not value.get("images"):
            raise UserError(f"{path} is {kind_of(value)}; {LIST_FORM}")
        images = checked(value, _ImageList, path)["images"]
        _check_once(path, "id", [image["id"] for image in images])
        _check_once(path, "file name", ["/".join(_parts(image["file_name"])) for image in images])
        self.ids = {image["id"] for image in images}
        self._by_name: dict[str, list[tuple[tuple[str, ...], int]]] = defaultdict(list)
        for image in images:
            parts = _parts(image["file_name"])
            self._by_name[parts[-1]].append((parts, image["id"]))

    def find(self, picture: str) -> int | None:
        """The image whose file name, folders included, ends the path; or the only one of the path's name."""
        parts = _parts(picture)
        called_so = self._by_name.get(parts[-1], [])
        ending = [entry for entry in called_so if parts[-len(entry[0]) :] == entry[0]]
        if ending:
            return max(ending, key=lambda entry: len(entry[0]))[1]
        return called_so[0][1] if len(called_so) == 1 else None

    def is_ambiguous(self, picture: str) -> bool:
        """Whether several images have the path's name."""
        return len(self._by_name.get(_parts(picture)[-1], [])) > 1


def _check_once(path: Path, what: str, entries: Sequence[object]) -> None:
    repeated = [entry for entry, count in Counter(entries).items() if count > 1]
    if repeated:
        raise UserError(f"{path}: two images of the list have the same {what}: {listed(repeated)}")


def _parts(file_name: str) -> tuple[str, ...]:
    """Folders and name of a file, of Windows as well; COCO's names of 2014 as in its release of 2017."""
    parts = PurePosixPath(file_name.replace("\\", "/")).parts or ("",)
    return (*parts[:-1], NAME_OF_2014.sub("", parts[-1]))


def is_lines(text: str) -> bool:
    """Whether the text of a file is JSON lines, or one of them; a result file is a list."""
    return looks_like_lines(text) or text.lstrip().startswith('{"path"')


def read_lines(text: str, path: Path, names: ImageNames) -> dict[int, str]:
    """Captions by image id from JSON lines with `path` and `caption`; images are known by their file names.

    `text` is the content of the file `path`.

    Raises:
        UserError: a line is damaged, an image has two captions, or is not in the list.
    """
    rows = [
        _read_line(line, f"{path}, line {number}")
        for number, line in enumerate(text.split("\n"), start=1)
        if line.strip()
    ]
    pictures = {picture: names.find(picture) for picture, _ in rows}
    _check_pictures(path, pictures, names)
    repeated = sorted(picture for picture, count in Counter(each for each, _ in rows).items() if count > 1)
    if repeated:
        raise UserError(f"{path}: images with more than one caption: {listed(repeated)}; do without --sample")
    return {image_id: text for picture, text in rows if (image_id := pictures[picture]) is not None}


def _read_line(line: str, place: str) -> tuple[str, str]:
    """Path and caption."""
    try:
        row = parse_json(line, place)
        picture, text = row["path"], row["caption"]
    except (UserError, KeyError, TypeError):
        raise UserError(
            f"{place} is no caption of fsgr caption --json, an object with `path` and `caption`; "
            "run it again, or give a result file"
        ) from None
    if not isinstance(picture, str) or not isinstance(text, str):
        raise UserError(f"{place}: path and caption must be texts; found {row['path']!r}, {row['caption']!r}")
    return picture, text


def _check_pictures(path: Path, pictures: Mapping[str, int | None], names: ImageNames) -> None:
    """Each picture is one image of the list, and each image one picture."""
    unknown = sorted(picture for picture, image_id in pictures.items() if image_id is None)
    if ambiguous := [picture for picture in unknown if names.is_ambiguous(picture)]:
        raise UserError(
            f"{path}: several images of the list are named like a picture, in other folders: "
            f"{listed(ambiguous)}; caption the folder that the list starts from"
        )
    if unknown:
        raise UserError(f"{path}: captions of images that the list does not name: {listed(unknown)}")
    of_image: dict[int | None, list[str]] = defaultdict(list)
    for picture, image_id in pictures.items():
        of_image[image_id].append(picture)
    shared = [" and ".join(each) for each in of_image.values() if len(each) > 1]
    if shared:
        raise UserError(
            f"{path}: two pictures for one image of the list: {listed(shared)}; keep the lines of one"
        )


def _check(spoken: dict[int, str], wanted: Set[int], captions: Path, images: Path) -> None:
    """One caption with a word in it for each image of the list, and no other."""
    check_any_shared(spoken, wanted, str(images))
    problems = (
        (sorted(wanted - spoken.keys()), f"images of {images} without a caption"),
        (sorted(spoken.keys() - wanted), f"captions of images that {images} does not list"),
        (sorted(i for i, text in spoken.items() if not tokens_of(text)), "captions without a word"),
    )
    found = [f"{len(ids)} {what}: {listed(ids)}" for ids, what in problems if ids]
    if found:
        raise UserError(f"{captions}: the server requires one caption for every image; {'; '.join(found)}")
