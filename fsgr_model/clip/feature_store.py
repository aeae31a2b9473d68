"""Rows of features by image id in an HDF5 file: the only module that reads or writes HDF5.

One chunk a row, no compression, all space laid out at creation: filling in rows then changes no metadata,
and a writer that is killed leaves a file that the next one completes. Finished files are moved to their place
together.
"""

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

from fsgr_model.artifacts import fingerprint
from fsgr_model.errors import UserError

# 2: with checksums.
FORMAT_VERSION = 2
# What h5py raises for files that are none, or are damaged.
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
    """Move finished files from `working` to `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        shutil.move(working / name, folder / name)


class RowWriter:
    """Fills the rows of a new or unfinished file; a context manager. One process writes at a time."""

    def __init__(
        self, path: Path, row_format: RowFormat, image_ids: Sequence[int], identity: dict[str, Any]
    ) -> None:
        self.path = path
        self._row_of = {image_id: row for row, image_id in enumerate(image_ids)}
        if not path.exists():
            _create(path, row_format, image_ids, identity)
        try:
            self._file = h5py.File(path, "r+")
            self._rows: h5py.Dataset = self._file[row_format.name]
            self._checksums: h5py.Dataset = self._file["checksums"]
            self._written: h5py.Dataset = self._file["written"]
        except HDF5_ERRORS as error:
            raise UserError(
                f"{path} cannot be gone on with ({error}); delete {path.parent} to begin this stage anew"
            ) from None

    def missing(self) -> list[int]:
        """Image ids whose row is not written yet, in the order of the file."""
        written = self._written[:]
        return [image_id for image_id, row in self._row_of.items() if not written[row]]

    def write(self, image_ids: Sequence[int], rows: np.ndarray) -> None:
        """Write rows [n, *shape] and flush them.

        Raises:
            UserError: a row holds NaN or infinity, also one that only the file's smaller dtype makes.
        """
        with np.errstate(over="ignore"):
            rows = rows.astype(self._rows.dtype)
        for image_id, row in zip(image_ids, rows, strict=True):
            if rows.dtype.kind == "f" and not np.isfinite(row).all():
                raise UserError(
                    f"features of image {image_id} hold NaN or values beyond {rows.dtype}; "
                    "the weights of CLIP are broken, or clip.cut needs another block"
                )
            self._rows[self._row_of[image_id]] = row
            self._checksums[self._row_of[image_id]] = zlib.crc32(row.tobytes())
        # Data before flags: a row that is flagged is on the disk.
        self._file.flush()
        for image_id in image_ids:
            self._written[self._row_of[image_id]] = 1
        self._file.flush()

    def __enter__(self) -> "RowWriter":
        return self

    def __exit__(self, *error: object) -> None:
        self._file.close()


def groups_of(image_ids: Sequence[int], size: int) -> list[list[int]]:
    """Consecutive runs of `size` image ids; the last one may be shorter."""
    return [list(image_ids[start : start + size]) for start in range(0, len(image_ids), size)]


def _create(path: Path, row_format: RowFormat, image_ids: Sequence[int], identity: dict[str, Any]) -> None:
    """Lay out an empty file; it gets its name only when its metadata is on the disk."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    with h5py.File(partial, "w") as file:
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
        space = h5py.h5s.create_simple((len(image_ids), *row_format.shape))
        kind = h5py.h5t.py_create(np.dtype(row_format.dtype))
        h5py.h5d.create(file.id, row_format.name.encode(), kind, space, dcpl=layout)
        file.attrs["head"] = _head(file.attrs["identity"], file[row_format.name], list(image_ids))
        file.flush()
    partial.replace(path)


def _head(identity: str, rows: h5py.Dataset, image_ids: list[int]) -> str:
    """What tells that the head of a file is as it was written: ids, identity, and shape and type of a row."""
    return fingerprint([identity, list(rows.shape), str(rows.dtype), image_ids])


class RowStore:
    """Reads a finished file. It is opened in the process that reads, so a store may be pickled and forked.

    Args:
        path: the file.
        expected: what its identity must say, key by key.

    Raises:
        UserError: no such file, a damaged one, one that is not finished or of another version, or its
            identity differs from `expected`.
    """

    def __init__(self, path: Path, expected: dict[str, Any]) -> None:
        self.path = path
        self._handle: tuple[int, h5py.File] | None = None
        with self._open() as file:
            try:
                self._read_head(file)
            except HDF5_ERRORS as error:
                raise UserError(f"{path} is damaged ({error}); {REMEDY}") from None
        _check_identity(path, self.identity, expected)
        self._row_of = {image_id: row for row, image_id in enumerate(self.image_ids)}
        self._compared = np.zeros(len(self.image_ids), dtype=bool)

    def _read_head(self, file: h5py.File) -> None:
        version = int(file.attrs.get("format_version", 1))
        if version != FORMAT_VERSION:
            age = "a newer" if version > FORMAT_VERSION else "an older"
            raise UserError(
                f"{self.path} was written by {age} version of this project, or is no feature file: format "
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

    def __len__(self) -> int:
        return len(self.image_ids)

    def rows(self, image_ids: Sequence[int]) -> np.ndarray:
        """Rows [n, *row_shape] of these images, in this order.

        Raises:
            UserError: an image has no row, or a row is not as it was written.
        """
        unknown = [image_id for image_id in image_ids if image_id not in self._row_of]
        if unknown:
            raise UserError(f"{self.path} has no features of images {unknown[:10]}; run dvc repro features")
        chunks = self._dataset().id
        corner = (0,) * len(self.row_shape)
        rows = [self._row_of[image_id] for image_id in image_ids]
        try:
            read = [chunks.read_direct_chunk((row, *corner))[1] for row in rows]
        except HDF5_ERRORS as error:
            raise UserError(f"{self.path} is damaged ({error}); {REMEDY}") from None
        for row, data in zip(rows, read, strict=True):
            self._compare(row, data)
        return np.frombuffer(b"".join(read), dtype=self.dtype).reshape(len(image_ids), *self.row_shape).copy()

    def _compare(self, row: int, data: bytes) -> None:
        """A row is compared with its checksum the first time that it is read."""
        if not self._compared[row]:
            if zlib.crc32(data) != self._checksums[row]:
                raise UserError(
                    f"{self.path} is damaged: the row of image {self.image_ids[row]} is not as it was "
                    f"written; {REMEDY}"
                )
            self._compared[row] = True

    def load_all(self) -> np.ndarray:
        """All rows [N, *row_shape], in the order of `image_ids`."""
        try:
            all_rows = self._dataset()[:]
        except HDF5_ERRORS as error:
            raise UserError(f"{self.path} is damaged ({error}); {REMEDY}") from None
        for row, data in enumerate(all_rows):
            self._compare(row, data.tobytes())
        return all_rows

    def _dataset(self) -> h5py.Dataset:
        if self._handle is None or self._handle[0] != os.getpid():
            self._handle = (os.getpid(), self._open())
        return self._handle[1][self._name]

    def _open(self) -> h5py.File:
        try:
            return h5py.File(self.path, "r")
        except FileNotFoundError:
            raise UserError(f"{self.path} does not exist; run dvc repro") from None
        except HDF5_ERRORS as error:
            raise UserError(f"{self.path} cannot be read as HDF5 ({error}); {REMEDY}") from None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_handle": None}


def _check_identity(path: Path, found: dict[str, Any], expected: dict[str, Any]) -> None:
    for key, value in json.loads(json.dumps(expected)).items():
        if found.get(key) != value:
            raise UserError(
                f"{path} was made with another {key}: the file says {found.get(key)!r}, this run needs "
                f"{value!r}; run dvc repro, or give the files that belong together"
            )
