import multiprocessing
import os
import signal
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image

from fsgr_model.clip.image_reading import read_batches
from fsgr_model.clip.loading import load_clip
from fsgr_model.clip.split import Trunk
from fsgr_model.clip.token_cache import (
    CacheDtype,
    open_of_trunk,
    read_tokens,
    round_tokens,
    trunk_identity,
)
from fsgr_model.config.params import RuntimeParams
from fsgr_model.datasets.image_file import open_rgb
from fsgr_model.datasets.normal_form import SPLITS, read_images
from fsgr_model.runtime.artifacts import sha256_file
from fsgr_model.runtime.errors import UserError
from fsgr_model.runtime.row_store import RowStore, RowWriter
from pipeline.features import extract_features

CPU = torch.device("cpu")
DTYPES: tuple[CacheDtype, ...] = ("float16", "int8")


@pytest.fixture(autouse=True)
def root(tmp_path, monkeypatch):
    monkeypatch.setenv("DVC_ROOT", str(tmp_path / "root"))
    return tmp_path / "root"


def extract(
    dataset: Path, clip_folder: Path, out: Path, *, cache_dtype: CacheDtype = "float16", workers: int = 0
) -> None:
    runtime = RuntimeParams(workers=workers, image_batch=5)
    extract_features(
        dataset, clip_folder=clip_folder, cut=1, cache_dtype=cache_dtype, runtime=runtime, out=out
    )


def assert_equal_stores(resumed: Path, whole: Path) -> None:
    for split in SPLITS:
        ours, theirs = (RowStore(folder / f"{split}.h5", {}) for folder in (resumed, whole))
        assert ours.load_all().tobytes() == theirs.load_all().tobytes()
        assert ours.identity == theirs.identity


@pytest.mark.parametrize("cache_dtype", DTYPES)
def test_rows_are_the_trunk_of_each_image(dataset, clip_folder, tmp_path, root, cache_dtype):
    out = tmp_path / "features"
    extract(dataset, clip_folder, out, cache_dtype=cache_dtype)
    clip = load_clip(clip_folder, torch.device("cpu"))
    for split in SPLITS:
        records = read_images(dataset, split)
        store = open_of_trunk(out / f"{split}.h5", trunk_identity(clip.identity, 1, cache_dtype))
        assert store.image_ids == [record.image_id for record in records]
        images = torch.stack([clip.preprocess(open_rgb(Path(record.path))) for record in records])
        expected = Trunk(clip.model, 1)(images)
        found = read_tokens(store, store.image_ids, CPU)
        # Batches of other sizes round differently, so that a code may be the next one.
        step = expected.abs().amax(dim=-1, keepdim=True) / 127 if cache_dtype == "int8" else 0
        assert ((found - round_tokens(expected, cache_dtype)).abs() <= 2e-3 + 1.01 * step).all()
        assert ((found - expected).abs() <= 2e-3 + 0.51 * step).all()
    assert list((root / ".resume").iterdir()) == []


def test_a_killed_run_goes_on_and_ends_as_if_it_had_not_been(dataset, clip_folder, tmp_path, root, capsys):
    out = tmp_path / "features"
    write, calls = RowWriter.write, []

    def write_then_die(writer, image_ids, rows):
        if len(calls) == 2:
            os.kill(os.getpid(), signal.SIGKILL)
        calls.append(image_ids)
        write(writer, image_ids, rows)

    def run():
        RowWriter.write = write_then_die  # in the fork alone
        extract(dataset, clip_folder, out, cache_dtype="int8")

    forked = multiprocessing.get_context("fork").Process(target=run)
    forked.start()
    forked.join()
    assert forked.exitcode == -signal.SIGKILL
    assert not out.exists()
    extract(dataset, clip_folder, out, cache_dtype="int8")
    assert "features of train: 3/3 batches" in capsys.readouterr().out
    extract(dataset, clip_folder, tmp_path / "whole", cache_dtype="int8")
    assert_equal_stores(out, tmp_path / "whole")


@pytest.mark.parametrize("cache_dtype", DTYPES)
def test_a_second_run_does_only_what_is_missing(dataset, clip_folder, tmp_path, monkeypatch, cache_dtype):
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
        extract(dataset, clip_folder, tmp_path / "features", cache_dtype=cache_dtype)
    monkeypatch.setattr(Trunk, "forward", lambda trunk, x: encoded.append(len(x)) or forward(trunk, x))
    extract(dataset, clip_folder, tmp_path / "features", cache_dtype=cache_dtype)
    assert encoded == [5, 5, 2, 4, 4]
    extract(dataset, clip_folder, tmp_path / "whole", cache_dtype=cache_dtype)
    assert_equal_stores(tmp_path / "features", tmp_path / "whole")


@pytest.mark.parametrize("cache_dtype", DTYPES)
@pytest.mark.parametrize("value", [torch.nan, torch.inf, 1e7])
def test_features_that_the_cache_cannot_hold_name_the_image(
    dataset, clip_folder, tmp_path, monkeypatch, value, cache_dtype
):
    """The second picture of the second batch; int8 has room up to 127 x 65504."""
    forward, calls = Trunk.forward, []

    def broken_at_the_second(trunk, images):
        calls.append(len(images))
        tokens_BTW = forward(trunk, images)
        tokens_BTW[1, 2, 3] = value if len(calls) == 2 else 1.0
        return tokens_BTW

    monkeypatch.setattr(Trunk, "forward", broken_at_the_second)
    image_id = read_images(dataset, "train")[6].image_id
    with pytest.raises(UserError, match=rf"image {image_id} hold NaN or values beyond {cache_dtype} "):
        extract(dataset, clip_folder, tmp_path / "features", cache_dtype=cache_dtype)
    assert not (tmp_path / "features").exists()


def test_all_missing_and_resized_files_are_listed(dataset, clip_folder, tmp_path):
    records = read_images(dataset)
    Path(records[0].path).unlink()
    Path(records[7].path).unlink()
    with Path(records[3].path).open("ab") as file:
        file.write(b"x")
    with pytest.raises(UserError) as caught:
        extract(dataset, clip_folder, tmp_path / "features")
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
    with pytest.raises(UserError, match=r"image 12 .* has other bytes; .*dvc repro -f dataset"):
        extract(dataset, clip_folder, tmp_path / "features", workers=workers)


def test_images_are_the_same_from_any_number_of_workers(dataset, clip_folder):
    clip = load_clip(clip_folder, torch.device("cpu"))
    records = read_images(dataset)
    alone, shared = (
        list(read_batches(records, clip.preprocess, batch=3, workers=workers)) for workers in (0, 2)
    )
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
    ((_, images),) = read_batches([turned], clip.preprocess, batch=1, workers=0)
    red = images[0, 0]
    assert red.shape == (32, 32)
    assert (red[:, :14] < -1).all()
    assert (red[:, 18:] > 1).all()
