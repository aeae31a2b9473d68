"""Workers that read pictures: what they lack is told, and nothing waits for one that is gone."""

import errno
import os
import signal
import subprocess
import tempfile
from collections import namedtuple
from multiprocessing import active_children, parent_process
from pathlib import Path

import pytest
import torch

from fsgr_model.clip import image_reading
from fsgr_model.clip.image_reading import check_files, read_batches
from fsgr_model.clip.loading import load_clip
from fsgr_model.datasets.normal_form import read_images
from fsgr_model.runtime.errors import UserError
from fsgr_model.runtime.resources import explain


def test_too_little_shared_memory_is_refused_with_both_numbers(dataset, clip_folder, monkeypatch):
    """20 pictures of 32 x 32 in float32: two batches of five for each of two workers wait at once."""
    clip = load_clip(clip_folder, torch.device("cpu"))
    records = read_images(dataset)
    needed = 20 * 3 * 32 * 32 * 4
    usage = namedtuple("usage", "free")
    monkeypatch.setattr(image_reading.shutil, "disk_usage", lambda folder: usage(needed - 1))
    with pytest.raises(UserError, match=r"need 0\.2 MB of shared memory, /dev/shm has 0\.2 MB free; .*: 0$"):
        next(read_batches(records, clip.preprocess, batch=5, workers=2))
    next(read_batches(records, clip.preprocess, batch=5, workers=0))
    next(read_batches(records, clip.preprocess, batch=4, workers=2))
    monkeypatch.setattr(image_reading.shutil, "disk_usage", lambda folder: usage(needed))
    next(read_batches(records, clip.preprocess, batch=5, workers=2))


@pytest.mark.parametrize(
    ("number", "message"),
    [
        (errno.EACCES, r"image 13 \(.*13\.png\) cannot be read \(Permission denied\)"),
        (errno.EIO, r"image 13 \(.*13\.png\) cannot be read \(Input/output error\)"),
        (errno.ENOENT, r"image 13 \(.*13\.png\) is missing"),
    ],
)
def test_why_a_picture_cannot_be_looked_at(dataset, monkeypatch, number, message):
    refuse(monkeypatch, number)
    with pytest.raises(UserError, match=f"^1 image files changed since the dataset stage: {message}"):
        check_files(read_images(dataset))


def test_a_network_drive_that_is_away_has_not_changed_the_pictures(dataset, monkeypatch):
    refuse(monkeypatch, errno.ESTALE)
    with pytest.raises(OSError, match=r"13\.png"):
        check_files(read_images(dataset))


def test_a_folder_in_the_place_of_a_picture(dataset):
    records = read_images(dataset)
    place = Path(records[0].path)
    place.unlink()
    place.mkdir()
    with pytest.raises(UserError, match=r"image 11 \(.*11\.png\) is no file"):
        check_files(records)


def refuse(monkeypatch, number):
    """What the system says of 13.png."""
    plain = Path.stat

    def stat(path, **options):
        if path.name == "13.png":
            raise OSError(number, image_reading.os.strerror(number), str(path))
        return plain(path, **options)

    monkeypatch.setattr(Path, "stat", stat)


@pytest.fixture
def seconds():
    """A test that waits without end fails."""

    def give_up(number, frame):
        raise AssertionError("it still waits")

    before = signal.signal(signal.SIGALRM, give_up)
    signal.setitimer(signal.ITIMER_REAL, 20)
    yield
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


@pytest.fixture
def short_folder():
    """Its path has room for a socket's name."""
    with tempfile.TemporaryDirectory(dir="/tmp") as name:
        yield Path(name)


@pytest.mark.usefixtures("seconds")
def test_a_long_path_of_temporary_files(dataset, clip_folder, tmp_path, monkeypatch):
    """The path of a socket has at most 107 bytes."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / ("long" * 30)))
    Path(tempfile.tempdir).mkdir()
    clip = load_clip(clip_folder, torch.device("cpu"))
    ids, images_BCHW = next(read_batches(read_images(dataset), clip.preprocess, batch=5, workers=1))
    assert (len(ids), images_BCHW.shape) == (5, (5, 3, 32, 32))


@pytest.mark.usefixtures("seconds")
def test_what_a_worker_cannot_share_is_told(dataset, clip_folder, monkeypatch):
    def refuse(descriptor):
        raise OSError(errno.EMFILE, image_reading.os.strerror(errno.EMFILE))

    monkeypatch.setattr("multiprocessing.reduction.DupFd", refuse)
    clip = load_clip(clip_folder, torch.device("cpu"))
    with pytest.raises(OSError, match="Errno 24") as refused:
        next(read_batches(read_images(dataset), clip.preprocess, batch=5, workers=1))
    assert explain(refused.value).startswith("too many open files")


@pytest.mark.usefixtures("seconds")
def test_a_worker_that_something_else_ends_is_told(dataset):
    def prepare(picture):
        """The first picture is measured in this process."""
        if parent_process():
            os.kill(os.getpid(), signal.SIGKILL)
        return torch.zeros(3, 32, 32)

    with pytest.raises(RuntimeError) as ended:
        next(read_batches(read_images(dataset), prepare, batch=5, workers=1))
    assert explain(ended.value).startswith("a worker process was ended from outside (DataLoader worker (pid")


@pytest.mark.usefixtures("seconds")
def test_a_job_whose_processes_are_all_told_to_end(dataset, short_folder, monkeypatch):
    """As a cluster's scheduler does: PyTorch prints a traceback for a worker that a signal ends.

    Nothing stays behind in shared memory.
    """
    monkeypatch.setattr(image_reading, "SHARED_MEMORY", short_folder)
    batches = read_batches(read_images(dataset), lambda picture: torch.zeros(3, 32, 32), batch=5, workers=1)
    next(batches)
    assert list(short_folder.iterdir())
    (worker,) = active_children()
    subprocess.run(["kill", "-TERM", str(worker.pid)], check=True)
    worker.join(10)
    assert worker.exitcode == 0
    assert not list(short_folder.iterdir())
    batches.close()


@pytest.mark.gpu
@pytest.mark.usefixtures("seconds")
def test_workers_batches_are_pinned_for_a_gpu(dataset, clip_folder):
    clip = load_clip(clip_folder, torch.device("cpu"))
    records = read_images(dataset)
    alone = list(read_batches(records, clip.preprocess, batch=5, workers=0))
    for (ids, images_BCHW), (same, pinned_BCHW) in zip(
        alone, read_batches(records, clip.preprocess, batch=5, workers=2), strict=True
    ):
        assert pinned_BCHW.is_pinned()
        assert ids == same and torch.equal(images_BCHW, pinned_BCHW)
