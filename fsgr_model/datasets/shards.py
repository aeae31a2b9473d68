"""Reader of WebDataset shards: tar files in which the files of a sample share their name up to its first dot.

The captions of `000123.jpg` are `captions` (a list) or `caption` in `000123.json`, or else the text of
`000123.txt`. Pictures are unpacked, since later stages open files; they then take twice the disk space.
"""

import errno
import lzma
import re
import tarfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from fsgr_model.config.dataset_params import ShardParams
from fsgr_model.datasets.normal_form import SPLITS
from fsgr_model.datasets.patterns import files_matching
from fsgr_model.datasets.raw_form import RawCaption, RawDataset, RawImage
from fsgr_model.datasets.samples import (
    Member,
    Sample,
    Tally,
    captions_of,
    picture_of,
    refuse_without_picture,
)
from fsgr_model.runtime.artifacts import check_free_space
from fsgr_model.runtime.errors import UserError, raise_if_refused
from fsgr_model.runtime.progress import progress

MEMBER = re.compile(r"(?P<key>(?:.*/)?[^./]+)\.(?P<kind>[^/]+)")
FIRST_ID = 1
# Limit for a text with the captions of one picture; a sparse or packed member may claim any size.
MOST_BYTES_OF_TEXT = 16 * 1024**2
# What the libraries raise for tar files, packed or not, that are broken.
TAR_ERRORS = (tarfile.TarError, EOFError, OSError, ValueError, zlib.error, lzma.LZMAError)

# The name of a sample is a folder of another one, or longer than file systems allow.
IMPOSSIBLE_NAMES = (errno.EEXIST, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG)


@dataclass(frozen=True)
class Shards:
    """The raw dataset; for each shard the target path of each picture; and the size of all pictures."""

    raw: RawDataset
    places: dict[Path, dict[str, str]]
    bytes: int


def read_shards(root: Path, params: ShardParams) -> Shards:
    """List the samples of all shards; images and captions are numbered from 1, in the order of the shards.

    Raises:
        UserError: a pattern matches no file, a shard is broken, or a sample has no picture or several.
    """
    raw, tally, size = RawDataset([], []), Tally(), 0
    places: dict[Path, dict[str, str]] = {}
    for split in SPLITS:
        pattern = getattr(params, split)
        for shard in files_matching(
            root, pattern, parameter=f"dataset.shards.{split}", remedy="; write it as train-*.tar"
        ):
            source = shard.relative_to(root).as_posix()
            places[shard] = {}
            for key, sample in _read_samples(shard).items():
                picture = picture_of(sample, shard, tally)
                assert picture is not None, "samples without one are refused"
                size += picture.size
                places[shard][picture.name] = _place(source, key, picture)
                image_id = len(raw.images) + FIRST_ID
                raw.images.append(RawImage(image_id, split, places[shard][picture.name], source))
                for caption in captions_of(sample, shard, params.caption_per_line, tally):
                    raw.captions.append(RawCaption(image_id, len(raw.captions) + FIRST_ID, caption, source))
    raw.notes.append(f"unpacked {len(raw.images)} pictures of {len(places)} shards, {size / 1e9:.3f} GB")
    raw.notes.extend(tally.notes())
    return Shards(raw, places, size)


def unpack_pictures(shards: Shards, folder: Path) -> None:
    """Write every picture below `folder`, under the name that the raw dataset gives it.

    Raises:
        UserError: the disk has too little space, or a shard is broken.
    """
    check_free_space(folder, shards.bytes)
    print(f"unpacking {len(shards.raw.images)} pictures, {shards.bytes / 1e9:.3f} GB", flush=True)
    for shard, place_of in progress(shards.places.items(), len(shards.places), "unpacking", unit="shards"):
        for name, data in _pictures(shard, place_of):
            _write(shard, folder / name, data)


def _pictures(shard: Path, place_of: dict[str, str]) -> Iterator[tuple[str, bytes]]:
    """Yield the target path and the bytes of each picture."""
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


def _place(source: str, key: str, picture: Member) -> str:
    """The target path of a picture; each shard has its own folder, since shards may use the same keys."""
    return f"{source.partition('.tar')[0]}/{key}.{picture.name.rpartition('.')[2]}"


def _read_samples(shard: Path) -> dict[str, Sample]:
    """Samples by key, in the order of the shard."""
    samples: dict[str, Sample] = {}
    with _opened(shard) as archive:
        for member in archive:
            parts = MEMBER.fullmatch(member.name)
            if parts and not member.isdir():
                sample = samples.setdefault(parts["key"], Sample())
                _take(sample, shard, archive, member, kind=parts["kind"].lower())
        _check_end(archive)
    refuse_without_picture(shard, samples.items())
    return samples


def _take(
    sample: Sample, shard: Path, archive: tarfile.TarFile, member: tarfile.TarInfo, *, kind: str
) -> None:
    """Add a member to its sample, and read it if it is a text."""
    if not member.isfile():
        raise UserError(f"{shard}: {member.name} is a link, not a file; make the shard again with files")
    alike = sample.members_like(kind)
    too_large = member.size > MOST_BYTES_OF_TEXT and alike is not sample.pictures
    if alike is None or (too_large and "." in kind):
        sample.others.append(kind)
    else:
        text = "" if alike is sample.pictures else _text(shard, archive, member)
        alike.append(Member(kind, member.name, member.size, text))


def _text(shard: Path, archive: tarfile.TarFile, member: tarfile.TarInfo) -> str:
    if member.size > MOST_BYTES_OF_TEXT:
        raise UserError(
            f"{shard}: {member.name} has {member.size} bytes; the captions of one picture may have "
            f"{MOST_BYTES_OF_TEXT}, make the shard again"
        )
    data = _content(archive, member)
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{shard}: {member.name} is not UTF-8 text (byte {error.start})") from None


def _content(archive: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    opened = archive.extractfile(member)
    assert opened is not None, "regular files have content"
    with opened:
        return opened.read()


def _check_end(archive: tarfile.TarFile) -> None:
    """A tar file ends with a block of zeros; without it a file cut off at a header looks complete."""
    assert archive.fileobj is not None
    archive.fileobj.seek(archive.offset)
    if archive.fileobj.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
        raise tarfile.ReadError("it was cut off")


@contextmanager
def _opened(shard: Path) -> Iterator[tarfile.TarFile]:
    """Open a tar file; errors when it is opened or read become a UserError."""
    try:
        with tarfile.open(shard) as archive:
            yield archive
    except TAR_ERRORS as error:
        raise_if_refused(error, shard)
        raise UserError(f"{shard} is not a complete tar file ({error}); download or make it again") from None
