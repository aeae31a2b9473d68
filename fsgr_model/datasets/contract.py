"""The rules that images and captions of a dataset must satisfy; each rule is one check with one message.

Ids belong to the file that lists them: the same number in two files denotes two things.
"""

import re
from collections import defaultdict
from collections.abc import Callable, Hashable, Sequence
from pathlib import PurePosixPath
from typing import TypeVar

from fsgr_model.datasets.normal_form import SPLITS
from fsgr_model.datasets.raw_form import RawCaption, RawDataset, RawImage
from fsgr_model.runtime.errors import UserError
from fsgr_model.runtime.listing import listed

Item = TypeVar("Item")
LONE_SURROGATE = re.compile("[\ud800-\udfff]")


def check_contract(dataset: RawDataset) -> None:
    """Raise a UserError at the first rule that is broken, with all the entries that break it."""
    check_splits_filled(dataset.images)
    check_file_names_stay_below(dataset.images)
    check_images_unique(dataset.images)
    check_captions_have_images(dataset)
    check_annotations_unique(dataset.captions)
    check_images_have_captions(dataset)


def check_splits_filled(images: list[RawImage]) -> None:
    """Training, validation and test each need at least one image."""
    filled = {image.split for image in images}
    empty = [split for split in SPLITS if split not in filled]
    if empty:
        raise UserError(
            f"each of the splits train, val and test needs images; none is left in {listed(empty)}"
        )


def check_file_names_stay_below(images: list[RawImage]) -> None:
    """A file name must stay within the folder of the images, and must be one that a file can have."""
    odd = [image for image in images if not _is_possible(image.file_name)]
    if odd:
        raise UserError(
            "file names must be UTF-8 text without a NUL; found "
            + listed([f"{image.file_name!r} (image {image.image_id} in {image.source})" for image in odd])
            + "; rename the files"
        )
    wrong = [image for image in images if _leads_away(image.file_name)]
    if wrong:
        raise UserError(
            "file names must be relative and stay below dataset.images, without '..'; found "
            + listed([f"{image.file_name!r} (image {image.image_id} in {image.source})" for image in wrong])
        )


def _is_possible(file_name: str) -> bool:
    """Whether a file can have this name: bytes in tar files that are not UTF-8 appear as lone surrogates."""
    return "\0" not in file_name and not LONE_SURROGATE.search(file_name)


def _leads_away(file_name: str) -> bool:
    place = PurePosixPath(file_name.replace("\\", "/"))
    return not place.name or place.is_absolute() or ".." in place.parts


def check_images_unique(images: list[RawImage]) -> None:
    """An image id of a file, and a file name, each denote one image in one split."""
    for what, key, shown in (("image id", _listed_id, _image_id), ("file name", _file_name, _file_name)):
        repeated = _repeated(images, key)
        across = [group for group in repeated if len({image.split for image in group}) > 1]
        if across:
            raise UserError(
                f"splits overlap: the same {what} is in two of train, val and test: "
                + listed(
                    [f"{shown(group[0])} ({', '.join(image.split for image in group)})" for group in across]
                )
                + "; keep each image in one split"
            )
        if repeated:
            raise UserError(
                f"duplicate {what}: "
                + listed([f"{shown(group[0])} ({len(group)} times in {_files(group)})" for group in repeated])
                + "; list each image once"
            )


def _listed_id(image: RawImage) -> tuple[str, int]:
    return image.source, image.image_id


def _image_id(image: RawImage) -> int:
    return image.image_id


def _file_name(image: RawImage) -> str:
    return str(PurePosixPath(image.file_name))


def _files(group: list[RawImage]) -> str:
    return ", ".join(dict.fromkeys(image.source for image in group))


def check_captions_have_images(dataset: RawDataset) -> None:
    """The image of a caption is listed in the same file as the caption."""
    known = {(image.source, image.image_id) for image in dataset.images}
    stray = [caption for caption in dataset.captions if (caption.source, caption.image_id) not in known]
    if not stray:
        return
    hint = (
        "; these look like annotation ids: are `id` and `image_id` of the annotations swapped?"
        if _ids_look_swapped(dataset, stray)
        else "; add the images or remove the captions"
    )
    raise UserError(
        "captions of unknown images: "
        + listed(
            [f"image {each.image_id} (annotation {each.annotation_id} in {each.source})" for each in stray]
        )
        + hint
    )


def _ids_look_swapped(dataset: RawDataset, stray: list[RawCaption]) -> bool:
    """A file's annotations have image ids as their own ids, or all stray image ids are annotation ids.

    If ids count from 1 the same numbers are ids of both, so a few strays do not show a swap.
    """
    files = {caption.source for caption in stray}
    image_ids = {image.image_id for image in dataset.images if image.source in files}
    annotation_ids = [caption.annotation_id for caption in dataset.captions if caption.source in files]
    stray_ids = {caption.image_id for caption in stray}
    many = 2 * len(stray) >= len(annotation_ids)
    return many and (image_ids.issuperset(annotation_ids) or stray_ids.issubset(annotation_ids))


def check_annotations_unique(captions: list[RawCaption]) -> None:
    """An annotation id of a file denotes one of its captions."""
    repeated = _repeated(captions, lambda caption: (caption.source, caption.annotation_id))
    if repeated:
        raise UserError(
            "duplicate annotation id: "
            + listed(
                [
                    f"{group[0].annotation_id} in {group[0].source} "
                    f"(images {', '.join(str(each.image_id) for each in group)})"
                    for group in repeated
                ]
            )
            + "; give each caption of a file an id of its own, or leave out all `id` of its annotations"
        )


def check_images_have_captions(dataset: RawDataset) -> None:
    """An image without a caption can be used neither for training nor for scoring.

    Only a test split may have none, on all of its images: it is then captioned, not scored.
    """
    described = {(caption.source, caption.image_id) for caption in dataset.captions}
    bare = [image for image in dataset.images if _listed_id(image) not in described]
    if all(image.split == "test" for image in bare) and len(bare) == _count_test(dataset):
        return
    if bare:
        raise UserError(
            "images without captions: "
            + listed([f"{image.image_id} ({image.file_name} in {image.source})" for image in bare])
            + "; add captions or remove the images from the file (only a whole test split may have none)"
        )


def _count_test(dataset: RawDataset) -> int:
    return sum(image.split == "test" for image in dataset.images)


def _repeated(items: Sequence[Item], key: Callable[[Item], Hashable]) -> list[list[Item]]:
    """Groups of two or more items that share a key."""
    if len(set(map(key, items))) == len(items):
        return []
    groups: dict[Hashable, list[Item]] = defaultdict(list)
    for item in items:
        groups[key(item)].append(item)
    return [group for group in groups.values() if len(group) > 1]
