"""Checks that the pictures of the lists exist and decode."""

import tarfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from fsgr_model.checkup.findings import Findings
from fsgr_model.config.dataset_params import UserDataset
from fsgr_model.datasets.image_check import check_images, inspect_image
from fsgr_model.datasets.image_file import BadImage, check_image_file, decode_rgb
from fsgr_model.datasets.raw_form import RawImage
from fsgr_model.datasets.reading import file_names_root
from fsgr_model.runtime.errors import naming_file
from fsgr_model.runtime.listing import listed

SAMPLE = 200
# A shard is read from its start, so reading one picture costs as much as reading all before it.
SAMPLE_OF_A_SHARD = 10


@dataclass(frozen=True)
class Decoding:
    """How many pictures were decoded, and how long one took, in seconds of one process."""

    pictures: int
    seconds_each: float


def check_pictures(
    images: list[RawImage], params: UserDataset, all_images: bool, workers: int, *, findings: Findings
) -> Decoding | None:
    """Look for every file and decode all of them, or a sample spread evenly over the lists; None if there is
    nothing to decode.
    """
    folder = file_names_root(params)
    there, bad = [], []
    for image in images:
        try:
            check_image_file(folder / image.file_name)
            there.append(image)
        except BadImage as error:
            bad.append((image, error.reason))
    chosen = there if all_images else there[:: max(1, len(there) // SAMPLE)][:SAMPLE]
    start = time.perf_counter()
    if all_images:
        bad += check_images(chosen, folder, workers, folder).bad
    else:
        found = [(image, inspect_image(folder / image.file_name)) for image in chosen]
        bad += [(image, facts) for image, facts in found if isinstance(facts, str)]
    seconds = (time.perf_counter() - start) * (max(workers, 1) if all_images else 1)
    _report(
        bad,
        len(images),
        decoded=len(chosen),
        folder=folder,
        skip=params.on_bad_image == "skip",
        findings=findings,
    )
    return Decoding(len(chosen), seconds / len(chosen)) if chosen else None


def check_shards(
    places: dict[Path, dict[str, str]], params: UserDataset, all_images: bool, findings: Findings
) -> Decoding | None:
    """Decode the first pictures of every tar file, or all of them."""
    bad, count, start = [], 0, time.perf_counter()
    for shard, place_of in places.items():
        for name, data in _members(shard, list(place_of)[: None if all_images else SAMPLE_OF_A_SHARD]):
            count += 1
            try:
                decode_rgb(data, name)
            except BadImage as error:
                bad.append((RawImage(count, "train", f"{shard.name}: {name}", ""), error.reason))
    seconds = time.perf_counter() - start
    total = sum(len(place_of) for place_of in places.values())
    _report(
        bad,
        total,
        decoded=count,
        folder=Path(params.root),
        skip=params.on_bad_image == "skip",
        findings=findings,
    )
    return Decoding(count, seconds / count) if count else None


def _members(shard: Path, names: list[str]) -> Iterator[tuple[str, bytes]]:
    with naming_file(shard), tarfile.open(shard) as archive:
        for name in names:
            opened = archive.extractfile(name)
            assert opened is not None, "the reader of shards lists regular files only"
            yield name, opened.read()


def _report(
    bad: list[tuple[RawImage, str]],
    images: int,
    *,
    decoded: int,
    folder: Path,
    skip: bool,
    findings: Findings,
) -> None:
    findings.fact("pictures", f"{images:,} listed, {decoded:,} decoded, {len(bad):,} missing or broken")
    if not bad:
        return
    names = listed([f"{image.file_name}: {reason}" for image, reason in bad])
    if skip and len(bad) < images:
        findings.fact("left out", f"{names} (dataset.on_bad_image: skip)")
        return
    findings.problem(
        f"dataset.images: {len(bad):,} of {images:,} pictures below {folder} are missing or cannot be "
        f"decoded: {names}; restore them, or set dataset.on_bad_image: skip to leave them out"
    )
