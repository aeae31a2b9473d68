"""Rows of features by image id in an HDF5 file: the only module that reads or writes them.

The file has one chunk per row and no compression, and all of its space is allocated at creation: writing rows
then changes no metadata and needs no more disk space, and a writer that is killed leaves a file that the next
one completes. Equal rows give equal bytes, however often the writing was interrupted. Finished files are
moved to their place together.
"""

import errno
import json
import os
import shutil
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from fsgr_model.runtime.artifacts import check_free_space, fingerprint, whole_folder
from fsgr_model.runtime.errors import UserError, naming_file, raise_if_refused
from fsgr_model.runtime.hdf5_file import open_to_read, open_to_write
from fsgr_model.runtime.world import ALONE, World

# 2: with checksums.
FORMAT_VERSION = 2
# Errors of os.link: another disk, or a file system without links.
NO_LINK = frozenset((errno.EXDEV, errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK))
# Errors of posix_fallocate: a file system that cannot reserve space.
NO_SPACE_AHEAD = frozenset((errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS))
# What h5py raises for files that are not HDF5, or are damaged.
HDF5_ERRORS = (OSError, KeyError, RuntimeError, ValueError, TypeError, AttributeError, MemoryError)
REMEDY = "delete it and run dvc repro"


@dataclass(frozen=True)
class RowFormat:
    """Name of the HDF5 dataset, shape of one image's row, and NumPy dtype."""

    name: str
    shape: tuple[int, ...]
    dtype: str

    @property
    def bytes(self) -> int:
        """Bytes of one row."""
        return int(np.prod(self.shape)) * np.dtype(self.dtype).itemsize


def publish(working: Path, folder: Path, names: Sequence[str]) -> None:
    """Make `folder` of finished files; they stay in `working` too, at no cost where both are on one disk."""
    with whole_folder(folder) as partial:
        for name in names:
            try:
                os.link(working / name, partial / name)
            except OSError as error:
                if error.errno not in NO_LINK:
                    raise
                shutil.copyfile(working / name, partial / name)


class RowWriter:
    """Fills the rows of a new or unfinished file; a context manager.

    Values go past HDF5 to the places that it chose at creation, so several processes can fill one file, no
    two of them the same row.
    """

    def __init__(
        self,
        path: Path,
        row_format: RowFormat,
        image_ids: Sequence[int],
        identity: dict[str, Any],
        *,
        world: World = ALONE,
    ) -> None:
        """Of several processes, each opens the file that rank 0 creates; all find the same rows missing."""
        self.path = path
        self._row_of = {image_id: row for row, image_id in enumerate(image_ids)}
        if world.rank == 0 and not path.exists():
            _create(path, row_format, image_ids, identity)
        world.wait_for_first(f"{path} exists")
        try:
            with open_to_write(path, "r+") as file:
                self._find_places(file, row_format.name)
        except HDF5_ERRORS as error:
            raise_if_refused(error, path)
            raise UserError(
                f"{path} cannot be continued ({error}); delete {path.parent} to start this stage again"
            ) from None
        self._file = os.open(path, os.O_RDWR)
        # None writes before all have read what is missing.
        world.wait()

    def _find_places(self, file: h5py.File, name: str) -> None:
        rows, checksums, written = (file[dataset] for dataset in (name, "checksums", "written"))
        self._dtype, self._checksum_dtype = rows.dtype, checksums.dtype
        self._offsets = _row_offsets(rows, self.path)
        self._checksums_at, self._written_at = checksums.id.get_offset(), written.id.get_offset()
        self._is_written = written[:].astype(bool)

    def missing(self) -> list[int]:
        """Image ids whose row was not written before, nor by this process, in the order of the file."""
        return [image_id for image_id, row in self._row_of.items() if not self._is_written[row]]

    def write(self, image_ids: Sequence[int], rows: np.ndarray) -> None:
        """Write rows [n, *shape], rounded to the file's dtype."""
        places = [self._row_of[image_id] for image_id in image_ids]
        with naming_file(self.path):
            for place, row in zip(places, rows.astype(self._dtype), strict=True):
                data = row.tobytes()
                checksum = np.array(zlib.crc32(data), dtype=self._checksum_dtype)
                self._put(data, self._offsets[place])
                self._put(checksum.tobytes(), self._checksums_at + place * checksum.itemsize)
            # Flags come last, so that a row that is flagged is in the file.
            for place in places:
                self._put(b"\1", self._written_at + place)
        self._is_written[places] = True

    def _put(self, data: bytes, offset: int) -> None:
        done = os.pwrite(self._file, data, offset)
        while done < len(data):
            done += os.pwrite(self._file, data[done:], offset + done)

    def __enter__(self) -> "RowWriter":
        return self

    def __exit__(self, *error: object) -> None:
        os.close(self._file)


def groups_of(image_ids: Sequence[int], size: int) -> list[list[int]]:
    """Consecutive runs of `size` image ids; the last one may be shorter."""
    return [list(image_ids[start : start + size]) for start in range(0, len(image_ids), size)]


def _create(path: Path, row_format: RowFormat, image_ids: Sequence[int], identity: dict[str, Any]) -> None:
    """Create an empty file of the full size; it gets its name only when its metadata is on the disk.

    Raises:
        UserError: the disk has too little space.
    """
    check_free_space(path.parent, row_format.bytes * len(image_ids))
    partial = path.with_name(path.name + ".partial")
    with naming_file(partial):
        _lay_out(partial, row_format, image_ids, identity)
        with partial.open("r+b") as laid_out:
            _reserve_space(laid_out.fileno(), partial.stat().st_size)
            os.fsync(laid_out.fileno())
    partial.replace(path)


def _lay_out(path: Path, row_format: RowFormat, image_ids: Sequence[int], identity: dict[str, Any]) -> None:
    with open_to_write(path, "w") as file:
        file.attrs["format_version"] = FORMAT_VERSION
        file.attrs["identity"] = json.dumps(identity, sort_keys=True)
        file.attrs["rows"] = row_format.name
        file["image_ids"] = np.asarray(image_ids, dtype=np.int64)
        file["written"] = np.zeros(len(image_ids), dtype=np.uint8)
        file["checksums"] = np.zeros(len(image_ids), dtype=np.uint32)
        layout = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        layout.set_chunk((1, *row_format.shape))
        layout.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
        layout.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
        layout.set_obj_track_times(False)
        space = h5py.h5s.create_simple((len(image_ids), *row_format.shape))
        kind = h5py.h5t.py_create(np.dtype(row_format.dtype))
        h5py.h5d.create(file.id, row_format.name.encode(), kind, space, dcpl=layout)
        file.attrs["head"] = _head(file.attrs["identity"], file[row_format.name], list(image_ids))
        file.flush()


def _reserve_space(file: int, size: int) -> None:
    """Reserve disk space where the system can; elsewhere other programs may use the space that was free."""
    if not hasattr(os, "posix_fallocate"):
        return
    try:
        os.posix_fallocate(file, 0, size)
    except OSError as error:
        if error.errno not in NO_SPACE_AHEAD:
            raise


def _head(identity: str, rows: h5py.Dataset, image_ids: list[int]) -> str:
    """A checksum of the head of a file: ids, identity, and shape and type of a row."""
    return fingerprint([identity, list(rows.shape), str(rows.dtype), image_ids])


class RowStore:
    """Reads a finished file. It is opened in the process that reads, so a store may be pickled and forked.

    HDF5 is only asked where each row lies; the rows themselves are copied out of the mapped file, about
    twenty times as fast as through HDF5.

    Args:
        path: the file.
        expected: values that its identity must have, key by key.
        below: a bound that all values must be below, where rows hold indices.

    Raises:
        UserError: the file is missing, damaged, unfinished or of another version, or its identity differs
            from `expected`.
    """

    def __init__(self, path: Path, expected: dict[str, Any], below: int | None = None) -> None:
        self.path = path
        self.below = below
        self._mapped: np.memmap | None = None
        with self._open() as file:
            try:
                self._read_head(file)
            except HDF5_ERRORS as error:
                raise_if_refused(error, path)
                raise UserError(f"{path} is damaged ({error}); {REMEDY}") from None
        self.check(expected)
        self._row_of = {image_id: row for row, image_id in enumerate(self.image_ids)}
        self._checked = np.zeros(len(self.image_ids), dtype=bool)

    def check(self, expected: dict[str, Any]) -> None:
        """Refuse the file if its identity differs from `expected`, key by key.

        Raises:
            UserError: the message has both values.
        """
        for key, value in json.loads(json.dumps(expected)).items():
            if self.identity.get(key) != value:
                raise UserError(
                    f"{self.path} was made with another {key}: the file says {self.identity.get(key)!r}, "
                    f"this run needs {value!r}; run dvc repro, or use files that belong together"
                )

    def _read_head(self, file: h5py.File) -> None:
        version = int(file.attrs.get("format_version", 1))
        if version != FORMAT_VERSION:
            age = "a newer" if version > FORMAT_VERSION else "an older"
            raise UserError(
                f"{self.path} was written by {age} version of this project, or is not a feature file: format "
                f"{version}, this one reads {FORMAT_VERSION}; {REMEDY}"
            )
        if not file["written"][:].all():
            raise UserError(f"{self.path} is not a finished feature file; {REMEDY}")
        self._name: str = str(file.attrs["rows"])
        rows: h5py.Dataset = file[self._name]
        self.image_ids: list[int] = file["image_ids"][:].tolist()
        if file.attrs["head"] != _head(str(file.attrs["identity"]), rows, self.image_ids):
            raise UserError(f"{self.path} is damaged: its head is not as it was written; {REMEDY}")
        self.identity: dict[str, Any] = json.loads(file.attrs["identity"])
        self.row_shape: tuple[int, ...] = rows.shape[1:]
        self.dtype: np.dtype = rows.dtype
        self._checksums = file["checksums"][:]
        self._offsets = _row_offsets(rows, self.path)

    def __len__(self) -> int:
        return len(self.image_ids)

    @property
    def row_bytes(self) -> int:
        """Bytes of one row."""
        return RowFormat(self._name, self.row_shape, self.dtype.str).bytes

    def rows(self, image_ids: Sequence[int], out: np.ndarray | None = None) -> np.ndarray:
        """Rows [n, *row_shape] of these images, in this order; in `out` if given.

        Raises:
            UserError: an image has no row; or a row is not as it was written, or holds NaN, infinity or an
                index that is too high.
        """
        unknown = [image_id for image_id in image_ids if image_id not in self._row_of]
        if unknown:
            raise UserError(f"{self.path} has no features of images {unknown[:10]}; run dvc repro features")
        if self._mapped is None:
            with naming_file(self.path):
                self._mapped = np.memmap(self.path, dtype=np.uint8, mode="r")
        if out is None:
            out = np.empty((len(image_ids), *self.row_shape), dtype=self.dtype)
        for place, image_id in enumerate(image_ids):
            row = self._row_of[image_id]
            out[place] = np.ndarray(self.row_shape, self.dtype, self._mapped, self._offsets[row])
            if not self._checked[row]:
                self._check(image_id, out[place])
                self._checked[row] = True
        return out

    def _check(self, image_id: int, values: np.ndarray) -> None:
        """Check a row the first time that it is read."""
        place = f"{self.path} is damaged: the row of image {image_id}"
        good = np.isfinite(values) if values.dtype.kind == "f" else values < (self.below or np.inf)
        if not good.all():
            index = np.argwhere(~good)[0]
            rule = "finite numbers" if values.dtype.kind == "f" else f"numbers below {self.below}"
            raise UserError(
                f"{place} holds {values[tuple(index)]} at {index.tolist()}, where only {rule} are allowed; "
                f"{REMEDY}"
            )
        if zlib.crc32(values.tobytes()) != self._checksums[self._row_of[image_id]]:
            raise UserError(f"{place} is not as it was written; {REMEDY}")

    def load_all(self) -> np.ndarray:
        """All rows [N, *row_shape], in the order of `image_ids`."""
        return self.rows(self.image_ids)

    def _open(self) -> h5py.File:
        try:
            return open_to_read(self.path)
        except FileNotFoundError:
            raise UserError(f"{self.path} does not exist; run dvc repro") from None
        except HDF5_ERRORS as error:
            raise UserError(f"{self.path} cannot be read as HDF5 ({error}); {REMEDY}") from None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_mapped": None}


def _row_offsets(dataset: h5py.Dataset, path: Path) -> list[int]:
    """Where each row begins in the file.

    Raises:
        UserError: a row is not one whole, uncompressed chunk.
    """
    found: list[h5py.h5d.StoreInfo] = []
    if dataset.chunks is not None:
        dataset.id.chunk_iter(found.append)
    size = RowFormat(dataset.name, dataset.shape[1:], dataset.dtype.str).bytes
    if len(found) != len(dataset) or any(chunk.size != size or chunk.filter_mask for chunk in found):
        raise UserError(f"{path} does not hold one plain chunk per image; delete it and run dvc repro")
    return [chunk.byte_offset for chunk in sorted(found, key=lambda chunk: chunk.chunk_offset[0])]
