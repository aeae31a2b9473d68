"""Readers of caption lists, one per split: BLIP and LAVIS, TextCaps, Localized Narratives, AI Challenger.

Such a list has one entry per caption of a picture, or one entry with all of its captions. If all pictures are
COCO's they keep COCO's ids; otherwise they are numbered from 1 in the order of the files, since their ids are
texts or missing. Captions are always numbered from 1.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from pydantic.dataclasses import dataclass as checked_dataclass

from fsgr_model.config.dataset_params import PerSplit
from fsgr_model.datasets.coco_pictures import coco_id
from fsgr_model.datasets.normal_form import SPLITS, Split
from fsgr_model.datasets.patterns import files_matching
from fsgr_model.datasets.picture_kinds import is_picture_name
from fsgr_model.datasets.raw_form import RawCaption, RawDataset, RawImage
from fsgr_model.runtime.artifacts import parse_json
from fsgr_model.runtime.checked_json import Texts, checked, read_checked
from fsgr_model.runtime.errors import UserError
from fsgr_model.runtime.listing import listed
from fsgr_model.text.lines import text_lines

FIRST_ID = 1
NUMBER = re.compile(r"([0-9]{1,12})(?:\.jpg)?")
COCO_ID = re.compile(r"coco_([0-9]{1,12})")


@dataclass(frozen=True, slots=True)
class Entry:
    """A picture and some of its captions; its id in COCO, its file name and its split, if known."""

    file_name: str
    captions: list[str]
    coco_id: int | None = None
    name: str = ""
    split: Split | None = None


def read_lists(form: str, root: Path, files: PerSplit, folders: PerSplit | None) -> RawDataset:
    """The pictures and captions of three lists of a `form` (one of READERS) below `root`.

    File names are relative to the folder of their split in `folders`, if that is given.

    Raises:
        UserError: a file is missing, malformed, or not of the form.
    """
    found: dict[tuple[Split, str], Placed] = {}
    for split in SPLITS:
        start = f"{getattr(folders, split)}/" if folders else ""
        for source in _matching(form, root, getattr(files, split), split):
            for entry in READERS[form](root / source):
                if not _belongs(entry, split, source, files):
                    continue
                place = Placed(start + entry.file_name, source, [], entry.coco_id)
                known = found.setdefault((split, entry.name or place.file_name), place)
                known.captions.extend(entry.captions)
                _check_same(root / source, place, known)
    return _numbered(found)


def _belongs(entry: Entry, split: Split, source: str, files: PerSplit) -> bool:
    """Whether the entry is of this split; one file may be given for all splits if its entries name theirs."""
    if entry.split is None or entry.split == split:
        return True
    if getattr(files, entry.split) == source:
        return False
    raise UserError(
        f"dataset.captions.{split}: {source} has an entry of the split {entry.split} ({entry.file_name}); "
        f"name it as dataset.captions.{entry.split} as well, or take the entry out"
    )


@dataclass(slots=True)
class Placed:
    """A picture of a split with all of its captions."""

    file_name: str
    source: str
    captions: list[str]
    coco_id: int | None


def _check_same(path: Path, place: Placed, known: Placed) -> None:
    if place.coco_id != known.coco_id:
        first, second = (each.coco_id if each.coco_id is not None else "none" for each in (known, place))
        raise UserError(
            f"{path}: {place.file_name} has COCO's id {first} and, in another entry, {second}; a picture has "
            "one id, correct the file"
        )


def _numbered(found: dict[tuple[Split, str], Placed]) -> RawDataset:
    """COCO's ids if every picture has one, else a number per key, so that the contract finds overlaps."""
    ours = {place.coco_id for place in found.values()}
    if None in ours:
        keys = dict.fromkeys(key for _, key in found)
        number_of = {key: number for number, key in enumerate(keys, FIRST_ID)}
    else:
        number_of = {key: place.coco_id for (_, key), place in found.items() if place.coco_id is not None}
    dataset = RawDataset([], [])
    for (split, key), place in found.items():
        image_id = number_of[key]
        dataset.images.append(RawImage(image_id, split, place.file_name, place.source))
        for text in place.captions:
            caption_id = len(dataset.captions) + FIRST_ID
            dataset.captions.append(RawCaption(image_id, caption_id, text, place.source))
    dataset.notes.append(
        "captions, and images that are not all COCO's, are numbered in the order of the files"
        if None in ours
        else "images keep COCO's ids; captions are numbered in the order of the files"
    )
    return dataset


def is_pattern(form: str, name: str) -> bool:
    """Whether a name stands for several files: Localized Narratives has four for COCO's training set."""
    return form == "narratives" and "*" in name


def _matching(form: str, root: Path, pattern: str, split: str) -> list[str]:
    """The files of a split below `root`, in the order of their names."""
    if not is_pattern(form, pattern):
        return [pattern]
    found = files_matching(root, pattern, parameter=f"dataset.captions.{split}")
    return [path.relative_to(root).as_posix() for path in found]


@checked_dataclass(slots=True)
class BlipEntry:
    """The lists of web pictures that BLIP was trained on have `url` instead of `image`."""

    image: str | None = None
    caption: Texts | None = None
    image_id: int | str | None = None
    split: Split | None = None
    url: str | None = None


def read_blip(path: Path) -> Iterator[Entry]:
    """A list of `{"image", "caption", "image_id"}`: one caption per entry in training, several otherwise.

    `coco_karpathy_train.json`, `flickr30k_val.json` and their like, as published with BLIP (Li et al., arXiv
    2201.12086, github.com/salesforce/BLIP, data/coco_karpathy_dataset.py) and LAVIS (arXiv 2209.09019).
    For pictures of COCO `image_id`, if present, is `coco_522418`, which agrees with the picture's name.
    """
    for number, row in enumerate(read_checked(path, list[BlipEntry])):
        if row.image is None and row.url:
            raise only_addresses(path, [row.url])
        if row.image is None:
            raise UserError(f"{path}: [{number}].image: missing; correct the file")
        yield Entry(row.image, row.caption or [], _blip_id(path, number, row), split=row.split)


def only_addresses(path: Path, addresses: list[str]) -> UserError:
    """The error for a list whose pictures must be downloaded first (github.com/rom1504/img2dataset)."""
    return UserError(
        f"{path} has addresses of pictures, not their files: {listed(addresses)}; download them with "
        "`img2dataset --output_format webdataset` (pip install img2dataset) and read its tar files with "
        "dataset.format: webdataset"
    )


def _blip_id(path: Path, number: int, row: BlipEntry) -> int | None:
    by_name = coco_id(row.image or "")
    given = COCO_ID.fullmatch(str(row.image_id))
    if given is None:
        return by_name
    if by_name not in (None, int(given[1])):
        raise UserError(
            f"{path}: [{number}]: image_id {row.image_id!r} is not the id in the name of {row.image}; one of "
            "them is of another picture, correct the file"
        )
    return int(given[1])


@checked_dataclass(slots=True)
class TextCapsEntry:
    image_id: str
    caption_str: Texts | None = None
    reference_strs: list[str] | None = None


@checked_dataclass(slots=True)
class TextCapsFile:
    data: list[TextCapsEntry]


def read_textcaps(path: Path) -> Iterator[Entry]:
    """TextCaps (Sidorov et al., arXiv 2003.12462), version 0.1: `data` has one entry per caption.

    `caption_str` is one caption, `reference_strs` are all captions of the picture; the union of both is
    taken. The picture is `<image_id>.jpg`. The test file has no captions (textvqa.org/textcaps/dataset).
    """
    own: dict[str, list[str]] = {}
    references: dict[str, Counter[str]] = {}
    for row in read_checked(path, TextCapsFile).data:
        own.setdefault(row.image_id, []).extend(row.caption_str or [])
        if row.reference_strs:
            known = references.get(row.image_id, Counter())
            references[row.image_id] = known | Counter(row.reference_strs)
    for image_id, captions in own.items():
        others = references.get(image_id, Counter()) - Counter(captions)
        yield Entry(f"{image_id}.jpg", captions + list(others.elements()), name=image_id)


@checked_dataclass(slots=True)
class Narrative:
    dataset_id: str
    image_id: str | int
    caption: str


def read_narratives(path: Path) -> Iterator[Entry]:
    """Localized Narratives (Pont-Tuset et al., arXiv 1912.03098): one JSON object per line and annotator.

    `dataset_id` is `mscoco_train2017` and so on for COCO, whose picture 391895 is `000000391895.jpg`; those
    of Flickr30k, ADE20k and Open Images are `<image_id>.jpg` (google.github.io/localized-narratives and
    github.com/google/localized-narratives). Times, traces and recordings are not read.
    """
    for number, line in text_lines(path):
        if not line.strip():
            continue
        place = f"{path}, line {number}"
        row = checked(parse_json(line, place), Narrative, Path(place))
        name = str(row.image_id)
        if "coco" not in row.dataset_id.lower():
            yield Entry(name if is_picture_name(name) else f"{name}.jpg", [row.caption])
        elif number_of := NUMBER.fullmatch(name):
            coco = int(number_of[1])
            yield Entry(f"{coco:012d}.jpg", [row.caption], coco)
        else:
            raise UserError(
                f"{place}: image_id of {row.dataset_id} must be a number of at most 12 digits; found {name!r}"
            )


@checked_dataclass(slots=True)
class ChallengerEntry:
    image_id: str
    caption: Texts | None = None


def read_ai_challenger(path: Path) -> Iterator[Entry]:
    """AI Challenger (Wu et al., arXiv 1711.06475): a list of `{"url", "image_id", "caption"}` in Chinese.

    `image_id` is the name of the picture's file and `caption` has five texts. The addresses are not read.
    """
    for number, row in enumerate(read_checked(path, list[ChallengerEntry])):
        if not is_picture_name(row.image_id):
            raise UserError(
                f"{path}: [{number}].image_id must be the name of a picture; found {row.image_id!r}; correct "
                "the file"
            )
        yield Entry(row.image_id, row.caption or [])


def refuse_list(path: Path, content: object) -> None:
    """Raise a UserError where a COCO file is expected and one of these lists is there."""
    form = ""
    if isinstance(content, list) and any(isinstance(row, dict) and "image" in row for row in content[:1]):
        form = "blip"
    elif isinstance(content, list) and any(
        isinstance(row, dict) and {"url", "image_id"} <= row.keys() for row in content[:1]
    ):
        form = "ai_challenger"
    elif isinstance(content, dict) and "data" in content and not {"images", "annotations"} & content.keys():
        form = "textcaps"
    if form:
        raise UserError(
            f"{path} is not a COCO caption file but looks like a list of dataset.format: {form}; set that"
        )


READERS: dict[str, Callable[[Path], Iterable[Entry]]] = {
    "blip": read_blip,
    "textcaps": read_textcaps,
    "narratives": read_narratives,
    "ai_challenger": read_ai_challenger,
}
