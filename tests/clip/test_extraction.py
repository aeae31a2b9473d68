import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from fsgr_model.clip.image_reading import read_batches
from fsgr_model.clip.loading import load_clip
from fsgr_model.clip.split import Trunk, trunk_identity
from fsgr_model.config.params import RuntimeParams
from fsgr_model.datasets.image_file import open_rgb
from fsgr_model.datasets.normal_form import SPLITS, read_images
from fsgr_model.runtime.artifacts import sha256_file
from fsgr_model.runtime.errors import UserError
from fsgr_model.runtime.row_store import RowStore
from pipeline.features import extract_features

RUNTIME = RuntimeParams(workers=0, image_batch=5)
KILLED_RUN = """
import os, signal, sys
from pathlib import Path
from pipeline.features import extract_features
from fsgr_model.runtime.row_store import RowWriter
from fsgr_model.config.params import RuntimeParams

write, calls = RowWriter.write, []

def write_then_die(writer, image_ids, rows):
    if len(calls) == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    calls.append(image_ids)
    write(writer, image_ids, rows)

RowWriter.write = write_then_die
dataset, clip, out = map(Path, sys.argv[1:])
runtime = RuntimeParams(workers=0, image_batch=5)
extract_features(dataset, clip_folder=clip, cut=1, runtime=runtime, out=out)
"""


@pytest.fixture(autouse=True)
def root(tmp_path, monkeypatch):
    monkeypatch.setenv("DVC_ROOT", str(tmp_path / "root"))
    return tmp_path / "root"


def test_rows_are_the_trunk_of_each_image(dataset, clip_folder, tmp_path, root):
    out = tmp_path / "features"
    extract_features(dataset, clip_folder=clip_folder, cut=1, runtime=RUNTIME, out=out)
    clip = load_clip(clip_folder, torch.device("cpu"))
    for split in SPLITS:
        records = read_images(dataset, split)
        store = RowStore(out / f"{split}.h5", trunk_identity(clip.identity, 1))
        assert store.image_ids == [record.image_id for record in records]
        images = torch.stack([clip.preprocess(open_rgb(Path(record.path))) for record in records])
        expected = Trunk(clip.model, 1)(images).half().numpy()
        np.testing.assert_allclose(store.load_all(), expected, atol=2e-3)
    assert list((root / ".resume").iterdir()) == []


def test_a_killed_run_goes_on_and_ends_as_if_it_had_not_been(dataset, clip_folder, tmp_path, root, capsys):
    out = tmp_path / "features"
    environment = {**os.environ, "PYTHONPATH": str(Path.cwd()), "PYTHONWARNINGS": "ignore"}
    command = [sys.executable, "-c", KILLED_RUN, str(dataset), str(clip_folder), str(out)]
    assert subprocess.run(command, env=environment, check=False).returncode == -signal.SIGKILL
    assert not out.exists()
    extract_features(dataset, clip_folder=clip_folder, cut=1, runtime=RUNTIME, out=out)
    assert "features of train: 3/3 batches" in capsys.readouterr().out
    extract_features(dataset, clip_folder=clip_folder, cut=1, runtime=RUNTIME, out=tmp_path / "whole")
    for split in SPLITS:
        resumed, whole = (RowStore(folder / f"{split}.h5", {}) for folder in (out, tmp_path / "whole"))
        assert resumed.load_all().tobytes() == whole.load_all().tobytes()
        assert resumed.identity == whole.identity


def test_a_second_run_does_only_what_is_missing(dataset, clip_folder, tmp_path, monkeypatch):
    """The first two batches of training images are not encoded again."""
    encoded = []
    forward = Trunk.forward

    def stop_at_third(trunk, images):
        if len(encoded) == 2:
            raise KeyboardInterrupt
        encoded.append(len(images))
        return forward(trunk, images)

    monkeypatch.setattr(Trunk, "forward", stop_at_third)
    with pytest.raises(KeyboardInterrupt):
        extract_features(dataset, clip_folder=clip_folder, cut=1, runtime=RUNTIME, out=tmp_path / "features")
    monkeypatch.setattr(Trunk, "forward", lambda trunk, x: encoded.append(len(x)) or forward(trunk, x))
    extract_features(dataset, clip_folder=clip_folder, cut=1, runtime=RUNTIME, out=tmp_path / "features")
    assert encoded == [5, 5, 2, 4, 4]


def test_all_missing_and_resized_files_are_listed(dataset, clip_folder, tmp_path):
    records = read_images(dataset)
    Path(records[0].path).unlink()
    Path(records[7].path).unlink()
    with Path(records[3].path).open("ab") as file:
        file.write(b"x")
    with pytest.raises(UserError) as caught:
        extract_features(dataset, clip_folder=clip_folder, cut=1, runtime=RUNTIME, out=tmp_path / "features")
    message = str(caught.value)
    assert message.startswith("3 image files changed since the dataset stage")
    assert all(f"image {records[index].image_id} " in message for index in (0, 3, 7))
    assert f"{records[3].bytes + 1} bytes instead of {records[3].bytes}" in message


@pytest.mark.parametrize("workers", [0, 1])
def test_changed_bytes_of_the_same_size_are_found(dataset, clip_folder, tmp_path, workers):
    path = Path(read_images(dataset)[1].path)
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    runtime = RuntimeParams(workers=workers, image_batch=5)
    with pytest.raises(UserError, match=r"image 12 .* has other bytes; .*dvc repro -f dataset"):
        extract_features(dataset, clip_folder=clip_folder, cut=1, runtime=runtime, out=tmp_path / "features")


def test_images_are_the_same_from_any_number_of_workers(dataset, clip_folder):
    clip = load_clip(clip_folder, torch.device("cpu"))
    records = read_images(dataset)
    alone, shared = (list(read_batches(records, clip.preprocess, 3, workers)) for workers in (0, 2))
    assert [ids for ids, _ in alone] == [ids for ids, _ in shared]
    assert all(torch.equal(a, b) for (_, a), (_, b) in zip(alone, shared, strict=True))


def test_pictures_are_upright_and_whole(tmp_path, dataset, clip_folder):
    """EXIF orientation is applied, and the default resize keeps both ends of a wide picture."""
    picture = Image.new("RGB", (40, 20), "black")
    picture.paste("red", (0, 0, 20, 20))
    exif = Image.Exif()
    exif[0x0112] = 3
    picture.save(tmp_path / "turned.jpg", exif=exif, quality=95)
    record = read_images(dataset)[0]
    path = tmp_path / "turned.jpg"
    turned = replace(record, path=str(path), sha256=sha256_file(path))
    clip = load_clip(clip_folder, torch.device("cpu"))
    ((_, images),) = read_batches([turned], clip.preprocess, 1, 0)
    red = images[0, 0]
    assert red.shape == (32, 32)
    assert (red[:, :14] < -1).all()
    assert (red[:, 18:] > 1).all()
