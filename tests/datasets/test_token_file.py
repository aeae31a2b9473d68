"""`tokens.npz` holds the tokens of `captions.json`; rows of lists are written as JSON writes them."""

from pathlib import Path

import pytest

from fsgr_model.datasets.normal_form import (
    SPLITS,
    CaptionRecord,
    Dataset,
    ImageRecord,
    read_captions,
    read_images,
    read_tokens,
    tokens_of,
    write_dataset,
)
from fsgr_model.runtime.artifacts import load_json, save_json, save_rows
from fsgr_model.runtime.errors import UserError

NOTHING = {"categories": [], "annotations": []}


def dataset() -> Dataset:
    images = [ImageRecord(9 - n, SPLITS[n % 3], f"{n}.jpg", 4, 3, 10 + n, f"{n}" * 64) for n in range(9)]
    texts = ["A dog.", 'Éin "Hund" \\ \u2028 \U0001f415', "a  dog\ta dog"]
    captions = [
        CaptionRecord(image.image_id, 3 * image.image_id + n, text, text.lower().split())
        for image in images
        if image.image_id != 4
        for n, text in enumerate(texts)
    ]
    return Dataset(images, captions, NOTHING, {})


def test_the_tokens_are_those_of_the_captions(tmp_path: Path) -> None:
    write_dataset(tmp_path, dataset())
    tokens, captions = read_tokens(tmp_path), read_captions(tmp_path)
    for split in SPLITS:
        assert dict(tokens_of(tokens, split)) == {
            image.image_id: [caption.tokens for caption in captions.get(image.image_id, [])]
            for image in read_images(tmp_path, split)
        }
    assert list(tokens_of(tokens, "test")) == sorted(tokens_of(tokens, "test"))


def test_equal_datasets_give_equal_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        write_dataset(tmp_path / name, dataset())
    assert (tmp_path / "a/tokens.npz").read_bytes() == (tmp_path / "b/tokens.npz").read_bytes()


def test_a_flipped_bit_is_noticed(tmp_path: Path) -> None:
    write_dataset(tmp_path, dataset())
    path = tmp_path / "tokens.npz"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(UserError, match=r"tokens.npz is not as it was written.*dvc repro -f dataset"):
        read_tokens(tmp_path)


ROWS = [{"a": 1, "b": 'ü\n"\x7f', "c": ["x", "\\"]}, {"a": -2, "b": "", "c": []}]


@pytest.mark.parametrize("rows", [[], ROWS[:1], ROWS])
def test_rows_are_written_as_json_writes_them(tmp_path: Path, rows: list[dict]) -> None:
    save_rows(tmp_path / "rows.json", rows)
    save_json(tmp_path / "all.json", rows)
    assert (tmp_path / "rows.json").read_bytes() == (tmp_path / "all.json").read_bytes()


def test_keys_that_no_one_reads_are_left_out_of_every_object(tmp_path: Path) -> None:
    save_json(tmp_path / "a.json", {"keep": [{"keep": 1, "drop": [1, 2]}], "drop": {"keep": 2}})
    assert load_json(tmp_path / "a.json", ("keep",)) == {"keep": [{"keep": 1}]}
    (tmp_path / "b.json").write_text('{"drop": 1, "drop": 2}')
    with pytest.raises(UserError, match="key 'drop' twice"):
        load_json(tmp_path / "b.json", ("keep",))
