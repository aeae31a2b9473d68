"""Images of the manifest as tensors: each file is checked against the manifest, decoded and preprocessed."""

import hashlib
import os
import shutil
import signal
import stat
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from multiprocessing.reduction import ForkingPickler
from pathlib import Path

import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset

from fsgr_model.datasets.image_file import decode_rgb, read_image_bytes
from fsgr_model.datasets.normal_form import ImageRecord
from fsgr_model.runtime.errors import UserError
from fsgr_model.runtime.resources import OF_MACHINE
from fsgr_model.runtime.stopping import end_with_parent

Preprocess = Callable[[Image.Image], torch.Tensor]
# The problems of a batch, else its image ids and images [n, 3, H, W].
Stacked = tuple[list[str], list[int], torch.Tensor]
SHOWN = 20
# Worker processes return images through shared memory, as many batches as a DataLoader prefetches.
SHARED_MEMORY = Path("/dev/shm")
BATCHES_PER_WORKER = 2


def check_files(records: Sequence[ImageRecord]) -> None:
    """Compare every file's size with the manifest, before any work.

    Raises:
        UserError: files are missing or have another size; the message gives their number and lists the first.
    """
    problems = [problem for record in records if (problem := _file_problem(record))]
    if problems:
        raise _manifest_error(problems)


def read_batches(
    records: Sequence[ImageRecord], preprocess: Preprocess, *, batch: int, workers: int
) -> Iterator[tuple[list[int], torch.Tensor]]:
    """Image ids and float32 images [n, 3, H, W], in the order of `records`; decoded by `workers` processes.

    Raises:
        UserError: a file is not the one of the manifest, or cannot be decoded; or too little shared memory.
    """
    images = _Images(records, preprocess)
    if workers and records:
        check_shared_memory(images, batch=batch, workers=workers)
    loader = DataLoader(
        images,
        batch,
        num_workers=workers,
        collate_fn=_Packed if workers else _stack,
        worker_init_fn=partial(_begin_worker, os.getpid()),
        pin_memory=torch.cuda.is_available(),
    )
    for found in loader:
        problems, ids, images_BCHW = found.unpack() if isinstance(found, _Packed) else found
        if problems:
            raise _manifest_error(problems)
        yield ids, images_BCHW


class _Images(Dataset):
    """Image id and tensor of a record; a problem is returned as its text, since workers garble exceptions."""

    def __init__(self, records: Sequence[ImageRecord], preprocess: Preprocess) -> None:
        self.records = records
        self.preprocess = preprocess

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, index: int) -> tuple[int, torch.Tensor] | str:
        record = self.records[index]
        try:
            data = read_image_bytes(Path(record.path))
            if hashlib.sha256(data).hexdigest() != record.sha256:
                return f"image {record.image_id} ({record.path}) has other bytes"
            return record.image_id, self.preprocess(decode_rgb(data, record.path))
        except UserError as error:
            return f"image {record.image_id}: {error}"


def _stack(items: list[tuple[int, torch.Tensor] | str]) -> Stacked:
    """The problems of a batch, else its ids and images. Workers stack, so they return a single tensor."""
    problems = [item for item in items if isinstance(item, str)]
    read = [item for item in items if not isinstance(item, str)]
    if problems:
        return problems, [], torch.empty(0)
    return [], [image_id for image_id, _ in read], torch.stack([image for _, image in read])


class _Packed:
    """A batch on its way out of a worker, as the bytes that say where in shared memory it lies.

    A queue pickles in a thread that drops what the system refuses to share (too many open files, no folder
    for a socket), and the other process would wait for it without end. Here it is pickled before it is put
    into the queue, where PyTorch passes errors on.
    """

    def __init__(self, items: list[tuple[int, torch.Tensor] | str]) -> None:
        self._bytes = bytes(ForkingPickler.dumps(_stack(items)))

    def unpack(self) -> Stacked:
        stacked: Stacked = ForkingPickler.loads(self._bytes)
        return stacked

    def pin_memory(self) -> Stacked:
        """Called by PyTorch's own thread where there is a GPU."""
        problems, ids, images_BCHW = self.unpack()
        return problems, ids, images_BCHW.pin_memory()


def _begin_worker(parent: int, worker: int) -> None:
    """Let a worker end with its parent; PyTorch misses a parent that is killed while the worker starts.

    Its socket, by which Linux hands images over, lies beside them: a socket's path has at most 107 bytes, and
    TMPDIR may be longer.
    """
    end_with_parent(parent)
    # A scheduler ends all processes of a job at once: PyTorch would take this one's end for a fault.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(0))
    if torch.multiprocessing.get_sharing_strategy() == "file_descriptor":
        tempfile.tempdir = str(SHARED_MEMORY)


def check_shared_memory(images: _Images, *, batch: int, workers: int) -> None:
    """Stop before any work if the batches that wait in shared memory do not fit there.

    Raises:
        UserError: they do not fit; the message gives both numbers.
    """
    if not SHARED_MEMORY.is_dir() or isinstance(first := images[0], str):
        return
    waiting = min(len(images), BATCHES_PER_WORKER * workers * batch)
    needed = waiting * first[1].nbytes
    free = shutil.disk_usage(SHARED_MEMORY).free
    if needed > free:
        raise UserError(
            f"runtime.workers {workers} with runtime.image_batch {batch} need {needed / 1e6:.1f} MB of "
            f"shared memory, {SHARED_MEMORY} has {free / 1e6:.1f} MB free; give the container more "
            f"(--shm-size={needed // 2**30 + 1}g), lower one of the two, or set runtime.workers: 0"
        )


def _file_problem(record: ImageRecord) -> str | None:
    """What is wrong with a file, as far as its metadata tell.

    Raises:
        OSError: the fault is the machine's, not this file's.
    """
    image = f"image {record.image_id} ({record.path})"
    try:
        facts = Path(record.path).stat()
    except (FileNotFoundError, NotADirectoryError):
        return f"{image} is missing"
    except OSError as error:
        if error.errno in OF_MACHINE:
            raise
        return f"{image} cannot be read ({error.strerror})"
    if not stat.S_ISREG(facts.st_mode):
        return f"{image} is no file"
    if facts.st_size != record.bytes:
        return f"{image} has {facts.st_size} bytes instead of {record.bytes}"
    return None


def _manifest_error(problems: list[str]) -> UserError:
    more = f" and {len(problems) - SHOWN} more" if len(problems) > SHOWN else ""
    return UserError(
        f"{len(problems)} image files changed since the dataset stage: {'; '.join(problems[:SHOWN])}{more}; "
        "restore them, or run dvc repro -f dataset"
    )
