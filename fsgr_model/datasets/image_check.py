"""Every image of a dataset is opened and decoded once, before any stage relies on it."""

import hashlib
import os
import posixpath
from collections import defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from fsgr_model.datasets.image_file import BadImage, decode_rgb, read_image_bytes
from fsgr_model.datasets.normal_form import ImageRecord
from fsgr_model.datasets.raw_form import RawImage
from fsgr_model.runtime.errors import UserError
from fsgr_model.runtime.listing import SHOWN, listed
from fsgr_model.runtime.progress import progress
from fsgr_model.runtime.stopping import end_with_parent

IMAGES_A_TASK = 64


@dataclass(frozen=True)
class ImageFacts:
    """Width and height in pixels after EXIF rotation; size and SHA-256 of the file."""

    width: int
    height: int
    bytes: int
    sha256: str


@dataclass(frozen=True)
class CheckedImages:
    """The images that decode, and those that do not with the reason for each."""

    good: list[ImageRecord]
    bad: list[tuple[RawImage, str]]


def check_images(images: list[RawImage], folder: Path, workers: int, place: Path) -> CheckedImages:
    """Open every image below `folder` in `workers` processes (0: in this one).

    `place` is the path of `folder` in the manifest: it differs if the folder will still be moved.
    """
    with inspection(images, folder, workers) as found:
        return gather(images, found, place)


@contextmanager
def inspection(images: list[RawImage], folder: Path, workers: int) -> Iterator[Iterator[ImageFacts | str]]:
    """The facts of every image below `folder`, or the reason why it cannot be decoded, in their order.

    The worker processes begin at once, so the block can do other work before it asks for what they found.
    """
    paths = [folder / image.file_name for image in images]
    if workers == 0:
        yield map(inspect_image, paths)
        return
    with ProcessPoolExecutor(workers, initializer=end_with_parent, initargs=(os.getpid(),)) as pool:
        try:
            yield pool.map(inspect_image, paths, chunksize=IMAGES_A_TASK)
        except BaseException:
            # Otherwise the end of the block would wait for all images.
            pool.shutdown(cancel_futures=True)
            raise


def gather(images: list[RawImage], facts: Iterator[ImageFacts | str], place: Path) -> CheckedImages:
    """The records of the images and those that are bad, from an `inspection`; it shows how many are done."""
    checked = CheckedImages([], [])
    seen = progress(facts, len(images), "checking images", unit="images")
    for image, found in zip(images, seen, strict=True):
        if isinstance(found, ImageFacts):
            checked.good.append(_record(image, place / image.file_name, found))
        else:
            checked.bad.append((image, found))
    return checked


def inspect_image(path: Path) -> ImageFacts | str:
    """The facts of an image file, or the reason why it cannot be decoded."""
    try:
        data = read_image_bytes(path)
        width, height = decode_rgb(data, str(path)).size
    except BadImage as error:
        return error.reason
    return ImageFacts(width, height, len(data), hashlib.sha256(data).hexdigest())


def _record(image: RawImage, path: Path, facts: ImageFacts) -> ImageRecord:
    return ImageRecord(
        image_id=image.image_id,
        split=image.split,
        path=path.as_posix(),
        width=facts.width,
        height=facts.height,
        bytes=facts.bytes,
        sha256=facts.sha256,
        domain=image.domain,
    )


def refuse_bad_images(bad: list[tuple[RawImage, str]], folder: Path) -> None:
    """Raise a UserError that lists the bad images, if any; if they do not fit into it, all are printed."""
    if len(bad) > SHOWN:
        for image, reason in bad:
            print(f"bad image: {image.file_name!r} (image {image.image_id}): {reason}")
    if bad:
        raise UserError(
            f"images below {folder} that are missing or cannot be decoded, {len(bad)} in all: "
            + listed([f"{image.file_name} (image {image.image_id}): {reason}" for image, reason in bad])
            + "; restore them, or set dataset.on_bad_image: skip to leave them out everywhere"
        )


def links_out(images: list[RawImage], folder: Path) -> list[str]:
    """Notes for the report about images that are links to files outside of `folder`.

    Links are followed, since DVC and Hugging Face keep datasets as links into a cache.
    """
    inside = folder.resolve()
    # One question about each folder, not about each part of the path of each picture.
    lies_inside = cache(lambda name: Path(name).resolve().is_relative_to(inside))
    out = [
        f"{image.file_name} -> {target}"
        for image in images
        if (target := _target(posixpath.join(folder, image.file_name), lies_inside))
        and not target.is_relative_to(inside)
    ]
    return [f"{len(out)} images are links that lead out of {folder}: {listed(out)}"] if out else []


def _target(path: str, lies_inside: Callable[[str], bool]) -> Path | None:
    """Where a file is; None for one that is no link, in a folder that lies inside."""
    parent, name = posixpath.split(path)
    is_plain = name not in ("", ".", "..") and not posixpath.islink(path)
    return None if is_plain and lies_inside(parent) else Path(path).resolve()


def duplicate_groups(images: list[ImageRecord]) -> list[list[ImageRecord]]:
    """Groups of images whose files have the same bytes, each sorted by image id."""
    groups: dict[str, list[ImageRecord]] = defaultdict(list)
    for image in sorted(images, key=lambda each: each.image_id):
        groups[image.sha256].append(image)
    return [group for group in groups.values() if len(group) > 1]


def refuse_duplicates(groups: list[list[ImageRecord]]) -> None:
    """Raise a UserError that lists all files with the same bytes, if there are any."""
    if groups:
        raise UserError(
            "files with the same bytes: "
            + listed([described_group(group) for group in groups])
            + "; remove all but one of each, or set dataset.on_duplicate_image: report to continue"
        )


def described_group(group: list[ImageRecord]) -> str:
    """`a.jpg (train) = b.jpg (test)`"""
    return " = ".join(f"{Path(image.path).name} ({image.split})" for image in group)
