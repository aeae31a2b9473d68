"""Reader of WebDataset shards: tar files in which the files of a sample share their name up to its first dot.

The captions of `000123.jpg` are the lines of `000123.txt`, or else `captions` (a list) or `caption` in
`000123.json`. Pictures are unpacked, since later stages open files; the disk then holds them twice.
"""

import errno
import lzma
import re
import tarfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fsgr_model.artifacts import check_free_space, parse_json
from fsgr_model.dataset_params import PerSplit
from fsgr_model.datasets.listing import listed
from fsgr_model.datasets.normal_form import SPLITS
from fsgr_model.datasets.raw_form import RawCaption, RawDataset, RawImage
from fsgr_model.errors import UserError, raise_if_refused
from fsgr_model.progress import progress

PICTURES = frozenset(("bmp", "gif", "jpeg", "jpg", "png", "ppm", "tif", "tiff", "webp"))
MEMBER = re.compile(r"(?P<key>(?:.*/)?[^./]+)\.(?P<kind>[^/]+)")
FIRST_ID = 1
# Of a text with the captions of one picture; a sparse or packed member may claim any size.
MOST_BYTES_OF_TEXT = 16 * 1024**2
# What the libraries raise for tar files, packed or not, that are broken.
TAR_ERRORS = (tarfile.TarError, EOFError, OSError, ValueError, zlib.error, lzma.LZMAError)

# One sample is named as a folder of another, or longer than file systems allow.
IMPOSSIBLE_NAMES = (errno.EEXIST, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG)


@dataclass
class Sample:
    """What a shard holds under one key; `picture` is the name of a member."""

    picture: str = ""
    text: list[str] | None = None
    described: list[str] = field(default_factory=list)

    @property
    def captions(self) -> list[str]:
        return self.described if self.text is None else self.text


@dataclass(frozen=True)
class Shards:
    """The raw dataset; for each shard, where each of its pictures goes; and the bytes that they take."""

    raw: RawDataset
    places: dict[Path, dict[str, str]]
    bytes: int


def read_shards(root: Path, patterns: PerSplit) -> Shards:
    """List the samples of all shards; images and captions are numbered from 1, in the order of the shards.

    Raises:
        UserError: a pattern matches no file, a shard is broken, or a sample has no picture or several.
    """
    raw, places, size = RawDataset([], []), {}, 0
    for split in SPLITS:
        for shard in _matching(root, getattr(patterns, split), split):
            source = shard.relative_to(root).as_posix()
            samples, bytes_of_pictures = _read_samples(shard)
            size += bytes_of_pictures
            places[shard] = {each.picture: _place(source, key, each) for key, each in samples.items()}
            for sample in samples.values():
                image_id = len(raw.images) + FIRST_ID
                raw.images.append(RawImage(image_id, split, places[shard][sample.picture], source))
                for caption in sample.captions:
                    raw.captions.append(RawCaption(image_id, len(raw.captions) + FIRST_ID, caption, source))
    raw.notes.append(f"unpacked {len(raw.images)} pictures of {len(places)} shards, {size / 1e9:.3f} GB")
    return Shards(raw, places, size)


def unpack_pictures(shards: Shards, folder: Path) -> None:
    """Write every picture below `folder`, under the name that the raw dataset gives it.

    Raises:
        UserError: the disk has too little space, or a shard is broken.
    """
    check_free_space(folder, shards.bytes)
    print(f"unpacking {len(shards.raw.images)} pictures, {shards.bytes / 1e9:.3f} GB", flush=True)
    for shard, place_of in progress(shards.places.items(), len(shards.places), "unpacking", "shards"):
        for name, data in _pictures(shard, place_of):
            _write(shard, folder / name, data)


def _pictures(shard: Path, place_of: dict[str, str]) -> Iterator[tuple[str, bytes]]:
    """The place and the bytes of each picture."""
    with _opened(shard) as archive:
        for member in archive:
            if member.name in place_of:
                yield place_of[member.name], _content(archive, member)


def _write(shard: Path, path: Path, data: bytes) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    except OSError as error:
        if error.errno not in IMPOSSIBLE_NAMES:
            raise
        raise UserError(
            f"{shard}: {path.name} cannot be unpacked ({error.strerror}); make the shard again with a name "
            "that is shorter, and not a folder of another sample"
        ) from None


def _matching(root: Path, pattern: str, split: str) -> list[Path]:
    try:
        found = sorted(root.glob(pattern))
    except (ValueError, NotImplementedError) as error:
        raise UserError(f"dataset.shards.{split}: {pattern!r} is no pattern below {root}: {error}") from None
    if not found:
        raise UserError(
            f"dataset.shards.{split}: no file below {root} matches {pattern!r}; write it as train-*.tar"
        )
    return found


def _place(source: str, key: str, sample: Sample) -> str:
    """Shards may use the same keys, so each has a folder of its own."""
    return f"{source.partition('.tar')[0]}/{key}.{sample.picture.rpartition('.')[2]}"


def _read_samples(shard: Path) -> tuple[dict[str, Sample], int]:
    """Samples by key in the order of the shard, and the bytes of their pictures."""
    samples: dict[str, Sample] = {}
    size = 0
    with _opened(shard) as archive:
        for member in archive:
            parts = MEMBER.fullmatch(member.name)
            if parts and not member.isdir():
                sample = samples.setdefault(parts["key"], Sample())
                size += _take(sample, shard, archive, member, parts["kind"].lower())
        _check_end(archive)
    bare = [key for key, sample in samples.items() if not sample.picture]
    if bare:
        raise UserError(
            f"{shard}: samples without a picture ({', '.join(sorted(PICTURES))}): {listed(bare)}; "
            "make the shard again without them"
        )
    return samples, size


def _take(sample: Sample, shard: Path, archive: tarfile.TarFile, member: tarfile.TarInfo, kind: str) -> int:
    """Add a member to its sample, if it is a picture or holds captions; the bytes that are to be unpacked."""
    if not member.isfile():
        raise UserError(f"{shard}: {member.name} is a link, not a file; make the shard again with files")
    if kind in PICTURES:
        if sample.picture:
            raise UserError(
                f"{shard}: one sample has two pictures, {sample.picture} and {member.name}; keep one of them"
            )
        sample.picture = member.name
        return member.size
    if kind == "txt":
        text = _text(shard, archive, member)
        sample.text = [line for line in text.splitlines() if line.strip()]
    elif kind == "json":
        sample.described = _captions_in_json(shard, member, _text(shard, archive, member))
    return 0


def _captions_in_json(shard: Path, member: tarfile.TarInfo, text: str) -> list[str]:
    captions = _captions_of(parse_json(text, f"{shard}: {member.name}"))
    if captions is None:
        raise UserError(f"{shard}: {member.name} needs `captions` (a list of texts) or `caption` (a text)")
    return captions


def _captions_of(values: Any) -> list[str] | None:
    """Captions in a sample's JSON; none where img2dataset wrote null. None if it is of another form."""
    if not isinstance(values, dict):
        return None
    found = values.get("captions", values.get("caption"))
    captions = [found] if isinstance(found, str) else [] if found is None else found
    well_formed = isinstance(captions, list) and all(isinstance(caption, str) for caption in captions)
    return captions if well_formed else None


def _text(shard: Path, archive: tarfile.TarFile, member: tarfile.TarInfo) -> str:
    if member.size > MOST_BYTES_OF_TEXT:
        raise UserError(
            f"{shard}: {member.name} has {member.size} bytes; the captions of one picture may have "
            f"{MOST_BYTES_OF_TEXT}, make the shard again"
        )
    data = _content(archive, member)
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise UserError(f"{shard}: {member.name} is not UTF-8 text (byte {error.start})") from None


def _content(archive: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    opened = archive.extractfile(member)
    assert opened is not None, "regular files have content"
    with opened:
        return opened.read()


def _check_end(archive: tarfile.TarFile) -> None:
    """A tar file ends with a block of zeros; one that was cut off at a header would else look complete."""
    assert archive.fileobj is not None
    archive.fileobj.seek(archive.offset)
    if archive.fileobj.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
        raise tarfile.ReadError("it was cut off")


@contextmanager
def _opened(shard: Path) -> Iterator[tarfile.TarFile]:
    """The tar file; what is wrong with it, then or while it is read, as a UserError."""
    try:
        with tarfile.open(shard) as archive:
            yield archive
    except TAR_ERRORS as error:
        raise_if_refused(error, shard)
        raise UserError(f"{shard} is not a whole tar file ({error}); get it again") from None
