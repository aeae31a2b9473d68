import errno
import json
import multiprocessing
import os
import pickle
import time
from collections import namedtuple

import h5py
import numpy as np
import pytest

from fsgr_model.runtime import row_store as feature_store
from fsgr_model.runtime.artifacts import check_free_space
from fsgr_model.runtime.errors import UserError
from fsgr_model.runtime.row_store import RowFormat, RowStore, RowWriter, publish

FORMAT = RowFormat("tokens", (3, 4), "float16")
IDENTITY = {"weights": "abc", "cut": 2, "preprocessing": {"size": [32, 32]}}
IDS = [40, 7, 123456789012]
ROWS = np.arange(36, dtype=np.float32).reshape(3, 3, 4)


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "train.h5"
    with RowWriter(path, FORMAT, IDS, IDENTITY) as writer:
        writer.write(IDS, ROWS)
    return path


def test_rows_come_back_by_image_id(path):
    store = RowStore(path, IDENTITY)
    assert store.image_ids == IDS
    assert len(store) == 3
    assert (store.row_shape, store.dtype) == ((3, 4), np.float16)
    found = store.rows([123456789012, 40, 40])
    np.testing.assert_array_equal(found, ROWS[[2, 0, 0]].astype(np.float16))
    found[:] = 0
    np.testing.assert_array_equal(store.load_all(), ROWS.astype(np.float16))


def test_no_rows_are_an_empty_array(path):
    assert RowStore(path, {}).rows([]).shape == (0, 3, 4)


def test_one_chunk_a_row_without_compression(path):
    with h5py.File(path) as file:
        assert file["tokens"].chunks == (1, 3, 4)
        assert file["tokens"].compression is None


def test_unknown_image_is_named(path):
    with pytest.raises(UserError, match=r"no features of images \[8\]"):
        RowStore(path, {}).rows([7, 8])


@pytest.mark.parametrize(("key", "value"), [("cut", 6), ("weights", "xyz"), ("codebook", 1)])
def test_another_identity_is_refused_with_both_values(path, key, value):
    with pytest.raises(UserError) as caught:
        RowStore(path, {**IDENTITY, key: value})
    assert repr(IDENTITY.get(key)) in str(caught.value)
    assert repr(value) in str(caught.value)


def test_tuples_and_lists_are_the_same_identity(path):
    RowStore(path, {"preprocessing": {"size": (32, 32)}})


def test_unfinished_file_is_refused(tmp_path):
    path = tmp_path / "train.h5"
    with RowWriter(path, FORMAT, IDS, IDENTITY) as writer:
        writer.write(IDS[:2], ROWS[:2])
    with pytest.raises(UserError, match="not a finished feature file"):
        RowStore(path, {})


def test_writer_goes_on_with_the_missing_rows(tmp_path):
    path = tmp_path / "train.h5"
    with RowWriter(path, FORMAT, IDS, IDENTITY) as writer:
        writer.write([7], ROWS[1:2])
        assert writer.missing() == [40, 123456789012]
    with RowWriter(path, FORMAT, IDS, IDENTITY) as writer:
        assert writer.missing() == [40, 123456789012]
        writer.write([123456789012, 40], ROWS[[2, 0]])
        assert writer.missing() == []
    np.testing.assert_array_equal(RowStore(path, IDENTITY).load_all(), ROWS.astype(np.float16))


def test_a_file_in_other_chunks_is_refused(path):
    with h5py.File(path, "r+") as file:
        del file["tokens"]
        file.create_dataset("tokens", data=ROWS.astype(np.float16), chunks=(1, 3, 4), compression="gzip")
    with pytest.raises(UserError, match="plain chunk per image"):
        RowStore(path, {})


def _sum_of_rows(store, queue):
    queue.put(float(store.rows([7]).sum()))


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_an_open_store_can_go_to_another_process(path, method):
    store = RowStore(path, IDENTITY)
    store.rows([40])
    context = multiprocessing.get_context(method)
    queue = context.Queue()
    child = context.Process(target=_sum_of_rows, args=(store, queue))
    child.start()
    assert queue.get(timeout=60) == ROWS[1].sum()
    child.join()
    assert pickle.loads(pickle.dumps(store)).rows([40]).sum() == ROWS[0].sum()


@pytest.mark.parametrize("content", [b"", b"not HDF5 at all", None])
def test_a_file_that_is_no_store_is_refused(tmp_path, content):
    path = tmp_path / "train.h5"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError, match=r"train\.h5 (cannot be read|does not exist)"):
        RowStore(path, {})


def test_a_truncated_file_is_refused(path):
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(UserError, match="cannot be read"):
        RowStore(path, {})


def test_too_little_space_is_said_with_both_numbers(tmp_path, monkeypatch):
    usage = namedtuple("usage", "free")(5_000_000_000)
    monkeypatch.setattr(feature_store.shutil, "disk_usage", lambda folder: usage)
    check_free_space(tmp_path / "new", 5_000_000_000)
    with pytest.raises(UserError, match=r"37\.30 GB more, but its disk has 5\.00 GB"):
        check_free_space(tmp_path, 37_300_000_000)


def test_publish_makes_a_folder_of_what_is_named_and_loses_nothing(path, tmp_path):
    (tmp_path / "lock").write_text("1")
    out = tmp_path / "out"
    out.mkdir()
    (out / "older.h5").write_text("1")
    publish(tmp_path, out, ["train.h5"])
    assert RowStore(out / "train.h5", IDENTITY).image_ids == IDS
    assert [file.name for file in out.iterdir()] == ["train.h5"]
    assert path.exists() and out.joinpath("train.h5").samefile(path)


@pytest.mark.parametrize("number", [errno.EXDEV, errno.EPERM])
def test_publish_copies_where_links_are_impossible(path, tmp_path, monkeypatch, number):
    def refuse(*arguments):
        raise OSError(number, "no link")

    monkeypatch.setattr(os, "link", refuse)
    publish(tmp_path, tmp_path / "out", ["train.h5"])
    assert (tmp_path / "out" / "train.h5").read_bytes() == path.read_bytes()


def test_rows_are_written_wherever_they_lie_in_the_file(tmp_path):
    """In runs of neighbours, forwards, backwards and with gaps."""
    ids, rows = list(range(100, 112)), np.random.default_rng(0).normal(size=(12, 3, 2)).astype(np.float16)
    orders = {"a": list(range(12)), "b": [3, 4, 5, 0, 11, 10, 1, 2, 8, 7, 6, 9], "c": list(range(11, -1, -1))}
    for name, order in orders.items():
        with RowWriter(tmp_path / f"{name}.h5", RowFormat("tokens", (3, 2), "float16"), ids, {}) as writer:
            for part in (order[:5], order[5:]):
                writer.write([ids[place] for place in part], rows[part])
        np.testing.assert_array_equal(RowStore(tmp_path / f"{name}.h5", {}).load_all(), rows)
    assert len({(tmp_path / f"{name}.h5").read_bytes() for name in orders}) == 1


def test_equal_rows_are_equal_bytes_whenever_and_however_they_are_written(path, tmp_path):
    """HDF5 keeps the time of creation in seconds if it is not told otherwise."""
    time.sleep(1.1)
    broken_off = tmp_path / "resumed" / "train.h5"
    for image_ids in ([7], [123456789012], [40]):
        with RowWriter(broken_off, FORMAT, IDS, IDENTITY) as writer:
            writer.write(image_ids, ROWS[[IDS.index(image_ids[0])]])
    assert broken_off.read_bytes() == path.read_bytes()


def test_the_disk_space_is_taken_at_creation(tmp_path):
    row_format = RowFormat("tokens", (100, 1000), "float16")
    with RowWriter(tmp_path / "train.h5", row_format, IDS, IDENTITY):
        taken = 512 * (tmp_path / "train.h5").stat().st_blocks
    assert taken >= 3 * row_format.bytes


def test_identity_is_readable_json(path):
    with h5py.File(path) as file:
        assert json.loads(file.attrs["identity"]) == IDENTITY
