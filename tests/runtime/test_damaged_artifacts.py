"""What the pipeline itself has written, cut short or with one bit flipped, is refused with the reason."""

import json
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from fsgr_model.clip.codebook import Codebook, load_codebook
from fsgr_model.clip.loading import load_description
from fsgr_model.runtime.artifacts import fingerprint, load_checked_json, load_json, save_json, write_checksum
from fsgr_model.runtime.errors import UserError
from fsgr_model.runtime.resume import ResumePoint
from fsgr_model.runtime.row_store import RowFormat, RowStore, RowWriter
from fsgr_model.runtime.tensor_file import load_tensors, save_tensors
from fsgr_model.text.vocabulary import SPECIALS, Vocabulary, load_word_embeddings, save_word_embeddings

TENSORS = {"weight": torch.arange(12.0).reshape(3, 4), "step": torch.tensor(7), "half": torch.ones(5).half()}
FACTS = {"made_with": json.dumps({"model": "tiny"})}
IDS = [40, 7, 123456789012]
FLIPS = 200
IDENTITY = {"weights": "abc", "cut": 2}


class Code:
    """What a pickle would run."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (Path("executed"),))


def features(path: Path) -> Path:
    with RowWriter(path, RowFormat("tokens", (3, 4), "float16"), IDS, IDENTITY) as writer:
        writer.write(IDS, np.arange(36, dtype=np.float32).reshape(3, 3, 4))
    return path


def read_features(path: Path) -> Any:
    store = RowStore(path, IDENTITY)
    return store.image_ids, store.identity, store.rows(IDS).tolist()


def tensors(path: Path) -> Path:
    save_tensors(path, TENSORS, FACTS)
    return path


def read_tensors(path: Path) -> Any:
    found, facts = load_tensors(path, "run it again")
    return {name: (str(value.dtype), value.tolist()) for name, value in found.items()}, facts


def description(path: Path) -> Path:
    described = {"model": "ViT-B-16", "config": {"embed_dim": 512}, "weights_sha256": "0" * 64}
    save_json(path, described | {"fingerprint": fingerprint(described)})
    return path


def images(path: Path) -> Path:
    save_json(path, [{"image_id": 7, "split": "train", "path": "caf\u00e9.jpg"}])
    write_checksum(path)
    return path


FILES = {"features.h5": (features, read_features), "weights.safetensors": (tensors, read_tensors)}
LISTS = {
    "clip.json": (description, lambda path: load_description(path.parent)),
    "images.json": (images, lambda path: load_checked_json(path, "run it again")),
}


@pytest.mark.parametrize("name", FILES | LISTS)
def test_a_flipped_bit_is_refused_or_means_nothing(tmp_path: Path, name: str) -> None:
    """Bits all over the file: never other numbers than were written."""
    write, read = (FILES | LISTS)[name]
    path = write(tmp_path / name)
    whole = path.read_bytes()
    before = read(path)
    refused, step = 0, max(1, 8 * len(whole) // FLIPS) | 1
    for bit in range(0, 8 * len(whole), step):
        data = bytearray(whole)
        data[bit // 8] ^= 1 << bit % 8
        path.write_bytes(data)
        try:
            assert read(path) == before, f"bit {bit}"
        except UserError as error:
            assert name in str(error)
            refused += 1
    assert refused > (10 if name.endswith("h5") else FLIPS // 2)


@pytest.mark.parametrize("name", FILES)
def test_a_row_or_weight_that_changed_is_named_damaged(tmp_path: Path, name: str) -> None:
    write, read = FILES[name]
    path = write(tmp_path / name)
    whole = path.read_bytes()
    number = np.float16(17) if name.endswith("h5") else np.float32(11)
    place = whole.rindex(number.tobytes())
    path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
    with pytest.raises(UserError, match=r"is damaged: .*(image 7 is not as it was written|SHA-256)"):
        read(path)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("kept", [0, 1, 7, 8, 100, 0.5, 0.99, -1])
def test_a_file_cut_short(tmp_path: Path, name: str, kept: float) -> None:
    write, read = FILES[name]
    path = write(tmp_path / name)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(kept * len(whole)) if 0 < kept < 1 else int(kept)])
    with pytest.raises(UserError, match=r"(cannot be read|is damaged)"):
        read(path)


def test_loading_all_rows_compares_them_too(tmp_path: Path) -> None:
    path = features(tmp_path / "features.h5")
    with h5py.File(path, "r+") as file:
        file["tokens"][2, 0, 0] += 1
    with pytest.raises(UserError, match="row of image 123456789012 is not as it was written"):
        RowStore(path, {}).load_all()


def swapped_ids(file: h5py.File) -> None:
    file["image_ids"][:] = [7, 40, 123456789012]


def another_identity(file: h5py.File) -> None:
    file.attrs["identity"] = json.dumps({"weights": "xyz", "cut": 2})


def newer(file: h5py.File) -> None:
    file.attrs["format_version"] = 3


def older(file: h5py.File) -> None:
    del file.attrs["format_version"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (swapped_ids, "its head is not as it was written"),
        (another_identity, "its head is not as it was written"),
        (
            newer,
            "written by a newer version of this project, .*: format 3, this one reads 2",
        ),
        (older, "written by an older version of this project, .*: format 1"),
    ],
)
def test_the_head_of_a_feature_file(
    tmp_path: Path, change: Callable[[h5py.File], None], message: str
) -> None:
    path = features(tmp_path / "features.h5")
    with h5py.File(path, "r+") as file:
        change(file)
    with pytest.raises(UserError, match=message):
        RowStore(path, {})


def test_a_cache_of_other_weights(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"another weights: the file says 'abc', this run needs 'xyz'"):
        RowStore(features(tmp_path / "features.h5"), {"weights": "xyz"})


def test_tensors_without_a_checksum(tmp_path: Path) -> None:
    save_file(TENSORS, tmp_path / "a.safetensors", metadata=FACTS)
    with pytest.raises(UserError, match=r"a\.safetensors holds no checksum: it is not a file of this"):
        load_tensors(tmp_path / "a.safetensors", "run it again")


def test_tensors_come_back_as_they_were(tmp_path: Path) -> None:
    found, facts = load_tensors(tensors(tmp_path / "a.safetensors"), "")
    assert facts == FACTS and found.keys() == TENSORS.keys()
    assert all(torch.equal(found[name], TENSORS[name]) for name in TENSORS)


@pytest.mark.parametrize("suffix", ["safetensors", "h5", "json"])
def test_code_in_a_file_is_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str) -> None:
    """No reader unpickles, whatever the suffix says."""
    monkeypatch.chdir(tmp_path)
    path = tmp_path / f"a.{suffix}"
    path.write_bytes(pickle.dumps(Code(), protocol=0))
    reader = {"safetensors": read_tensors, "h5": read_features, "json": load_json}[suffix]
    with pytest.raises(UserError):
        reader(path)
    torch.save({"model": Code()}, path)
    with pytest.raises(UserError):
        reader(path)
    assert not (tmp_path / "executed").exists()
    pickle.loads(pickle.dumps(Code()))
    assert (tmp_path / "executed").exists(), "what was tried would have left a trace"


def test_nothing_in_the_project_unpickles() -> None:
    root = Path(__file__).parents[2]
    text = {
        path: path.read_text() for room in ("fsgr_model", "pipeline") for path in (root / room).rglob("*.py")
    }
    for word in (
        "pickle.load",
        "joblib",
        "allow_pickle=True",
        "weights_only=False",
        "yaml.load(",
        "yaml.unsafe",
    ):
        assert not [path for path, code in text.items() if word in code], word
    loads = [line for code in text.values() for line in code.splitlines() if "torch.load(" in line]
    assert loads and all("weights_only=True" in line for line in loads)


def test_names_and_embeddings_of_a_codebook_belong_together(tmp_path: Path) -> None:
    Codebook(["dog", "cat"], torch.eye(2), {"weights": "abc"}).save(tmp_path)
    path = tmp_path / "codebook.json"
    path.write_text(path.read_text().replace("cat", "cow"))
    with pytest.raises(UserError, match="rows for other concepts than"):
        load_codebook(tmp_path)


def test_words_in_another_order(tmp_path: Path) -> None:
    words = Vocabulary([*SPECIALS, "dog", "cat"])
    save_word_embeddings(tmp_path / "a.safetensors", words, torch.randn(6, 4))
    with pytest.raises(UserError, match="vectors of other words: fingerprint"):
        load_word_embeddings(tmp_path / "a.safetensors", Vocabulary([*SPECIALS, "cat", "dog"]))


def test_a_damaged_resume_point_says_what_to_delete(tmp_path: Path) -> None:
    point = ResumePoint(tmp_path)
    point.save({"weight": torch.ones(3)}, {"epoch": 2})
    data = bytearray(point.state_file.read_bytes())
    data[-1] ^= 64
    point.state_file.write_bytes(data)
    with pytest.raises(UserError, match=rf"state\.safetensors is damaged: .*delete {tmp_path} to start"):
        point.load()


def test_an_unfinished_feature_file_that_is_damaged(tmp_path: Path) -> None:
    path = features(tmp_path / "features.h5")
    path.write_bytes(path.read_bytes()[:700])
    with pytest.raises(UserError, match=rf"cannot be continued .*delete {tmp_path} to start"):
        features(path)


def test_files_are_written_with_the_checksum_of_what_they_hold(tmp_path: Path) -> None:
    with safe_open(tensors(tmp_path / "a.safetensors"), framework="pt") as opened:
        assert len(json.loads(opened.metadata()["description"])["sha256"]) == 64
    shutil.copy(tmp_path / "a.safetensors", tmp_path / "b.safetensors")
    assert read_tensors(tmp_path / "b.safetensors") == read_tensors(tmp_path / "a.safetensors")
