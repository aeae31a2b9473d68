"""A file of float32 tensors, read and hashed in one pass."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from fsgr_model.runtime.artifacts import sha256_file
from fsgr_model.runtime.tensor_file import read_and_hash


@pytest.fixture
def path(tmp_path: Path) -> Path:
    tensors = {
        "a": torch.randn(3, 5),
        "empty": torch.zeros(0, 4),
        "scale": torch.tensor(2.5),
        "b": torch.ones(7),
    }
    save_file(tensors, tmp_path / "a.safetensors")
    return tmp_path / "a.safetensors"


def test_tensors_are_those_that_the_library_reads(path: Path) -> None:
    tensors, found = read_and_hash(path)
    expected = load_file(path)
    assert tensors.keys() == expected.keys() and found == sha256_file(path)
    for name, tensor in tensors.items():
        assert torch.equal(tensor, expected[name]) and tensor.shape == expected[name].shape
    # One tensor that stays does not keep the others in memory.
    assert tensors["a"].untyped_storage().nbytes() == 60


@pytest.mark.slow
def test_a_changed_file_has_another_hash_or_is_refused(path: Path) -> None:
    whole, expected = path.read_bytes(), sha256_file(path)
    refused = 0
    for bit in range(8 * len(whole)):
        data = bytearray(whole)
        data[bit // 8] ^= 1 << bit % 8
        path.write_bytes(data)
        try:
            assert read_and_hash(path)[1] != expected
        except ValueError:
            refused += 1
    assert 0 < refused < 8 * len(whole)


def test_a_file_cut_short_or_longer(path: Path) -> None:
    whole = path.read_bytes()
    for size in range(len(whole)):
        path.write_bytes(whole[:size])
        with pytest.raises(ValueError):
            read_and_hash(path)
    path.write_bytes(whole + b"more")
    assert read_and_hash(path)[1] == sha256_file(path)


def test_other_numbers_than_float32_are_refused(tmp_path: Path) -> None:
    save_file({"a": torch.ones(3).half()}, tmp_path / "half.safetensors")
    with pytest.raises(ValueError, match="F32"):
        read_and_hash(tmp_path / "half.safetensors")
