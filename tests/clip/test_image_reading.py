"""Shared memory that is too small for the workers' batches is found before any work."""

import errno
import socket
import tempfile
from collections import namedtuple
from pathlib import Path

import pytest
import torch

from fsgr_model.clip import image_reading
from fsgr_model.clip.image_reading import check_files, read_batches
from fsgr_model.clip.loading import load_clip
from fsgr_model.datasets.normal_form import read_images
from fsgr_model.runtime.errors import UserError


def test_too_little_shared_memory_is_refused_with_both_numbers(dataset, clip_folder, monkeypatch):
    """20 pictures of 32 x 32 in float32: two batches of five for each of two workers wait at once."""
    clip = load_clip(clip_folder, torch.device("cpu"))
    records = read_images(dataset)
    needed = 20 * 3 * 32 * 32 * 4
    usage = namedtuple("usage", "free")
    monkeypatch.setattr(image_reading.shutil, "disk_usage", lambda folder: usage(needed - 1))
    with pytest.raises(UserError, match=r"need 0\.2 MB of shared memory, /dev/shm has 0\.2 MB free; .*: 0$"):
        next(read_batches(records, clip.preprocess, 5, 2))
    next(read_batches(records, clip.preprocess, 5, 0))
    next(read_batches(records, clip.preprocess, 4, 2))
    monkeypatch.setattr(image_reading.shutil, "disk_usage", lambda folder: usage(needed))
    next(read_batches(records, clip.preprocess, 5, 2))


def test_a_temporary_folder_whose_path_is_too_long_for_sockets(dataset, clip_folder, monkeypatch):
    """A worker would fail on the side, and its images never come; the longest path that works, works."""
    clip = load_clip(clip_folder, torch.device("cpu"))
    records = read_images(dataset)
    with tempfile.TemporaryDirectory() as short:
        longest = Path(short) / ("x" * (74 - len(short)))
        for folder, fits in ((longest, True), (longest.with_name(longest.name + "x"), False)):
            (below := folder / "pymp-abcdefgh").mkdir(parents=True)
            monkeypatch.setattr(tempfile, "tempdir", str(folder))
            with socket.socket(socket.AF_UNIX) as listener:
                if fits:
                    listener.bind(str(below / "listener-abcdefgh"))
                    next(read_batches(records, clip.preprocess, 5, 1))
                    continue
                with pytest.raises(OSError, match="path too long"):
                    listener.bind(str(below / "listener-abcdefgh"))
                with pytest.raises(UserError, match=r"has 76 bytes \(.*\); .* so it may have 75; set TMPDIR"):
                    next(read_batches(records, clip.preprocess, 5, 1))
                next(read_batches(records, clip.preprocess, 5, 0))


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
