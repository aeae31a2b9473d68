"""Lists as other programs write them: refused with place and value, or read to the last character."""

import json
from pathlib import Path
from typing import Any

import pytest

from fsgr_model.datasets.m2 import read_id_file
from fsgr_model.datasets.normal_form import read_captions, read_images
from fsgr_model.runtime.artifacts import load_json, parse_json
from fsgr_model.runtime.errors import UserError
from fsgr_model.text.ptb_tokenizer import ptb_tokenize
from tests.worlds.small_dataset import FILES, SmallDataset

NO_JSON = {
    '{"images": [],\n "annotations": [}': "line 2, column 18: Expecting value",
    '{"images": [\n  {"id": 11\n': "line 3, column 1: Expecting ',' delimiter",
    "": "line 1, column 1: Expecting value",
    '{"images": []} {}': "line 1, column 16: Extra data",
    "{\"images\": [], 'annotations': []}": "line 1, column 16: Expecting property name",
    '[\n"a \\ud83d b"]': r"line 2, column 4: half of a surrogate pair, \\ud83d",
    '["\\ud83d\\ude00 \\\\ud83d", "\\ude00"]': r"line 1, column 27: half of a surrogate pair, \\ude00",
    "[" * 100_000: "is nested too deeply",
    '{"images": [], "images": []}': "one object has the key 'images' twice",
    '{"images": [{"id": ' + "9" * 5_000 + "}]}": "4300 digits",
}


@pytest.mark.parametrize(("text", "message"), NO_JSON.items(), ids=range(len(NO_JSON)))
def test_what_is_no_json(small: SmallDataset, text: str, message: str) -> None:
    small.write()
    (small.root / FILES["train"]).write_text(text, encoding="utf-8")
    with pytest.raises(UserError, match=rf"captions_train\.json.*{message}"):
        small.build_written()


def test_whole_surrogate_pairs_and_escaped_backslashes_are_read() -> None:
    assert parse_json('["\\ud83d\\ude00", "\\\\ud83d"]', "a") == ["😀", "\\ud83d"]


def test_a_file_in_another_encoding(small: SmallDataset) -> None:
    small.write()
    path = small.root / FILES["train"]
    path.write_bytes(path.read_text().encode("utf-16"))
    with pytest.raises(UserError, match=r"captions_train\.json is not UTF-8 text \(byte 0\)"):
        small.build_written()
    path.unlink()
    path.mkdir()
    with pytest.raises(UserError, match=r"captions_train\.json cannot be read \(Is a directory\)"):
        small.build_written()


WRONG = [
    ("images", "id", "17", r"images\[0\]\.id: Input should be a valid integer \(found '17'\)"),
    ("images", "id", True, r"images\[0\]\.id: Input should be a valid integer \(found True\)"),
    ("images", "id", 11.0, r"images\[0\]\.id: Input should be a valid integer \(found 11\.0\)"),
    ("images", "id", float("nan"), r"images\[0\]\.id: Input should be a valid integer \(found nan\)"),
    ("images", "id", -1, r"images\[0\]\.id: .* greater than or equal to 0 \(found -1\)"),
    ("images", "id", 2**63, r"images\[0\]\.id: .* less than 9223372036854775808"),
    ("images", "id", None, r"images\[0\]\.id: .*\(found None\)"),
    ("images", "file_name", 7, r"images\[0\]\.file_name: Input should be a valid string \(found 7\)"),
    ("images", "file_name", "../../etc/passwd", r"without '\.\.'; found '\.\./\.\./etc/passwd' \(image 11"),
    ("images", "file_name", "a/../../b.png", r"without '\.\.'; found 'a/\.\./\.\./b\.png'"),
    ("images", "file_name", "..\\..\\b.png", r"without '\.\.'; found"),
    ("images", "file_name", "/etc/passwd", r"must be relative .*; found '/etc/passwd'"),
    ("images", "file_name", "", r"must be relative .*; found ''"),
    ("images", "file_name", "a\0.png", r"without a NUL; found 'a\\x00\.png'"),
    ("images", "file_name", "12.png", r"duplicate file name: 12\.png \(2 times"),
    ("annotations", "caption", None, r"annotations\[0\]\.caption: Input should be a valid string"),
    ("annotations", "caption", ["a"], r"annotations\[0\]\.caption: Input should be a valid string"),
    ("annotations", "caption", "", r"captions without a word: annotation 110 of image 11"),
    ("annotations", "caption", " \t\n\x00\x1b😀", r"captions without a word: annotation 110 .*\\x1b😀"),
    ("annotations", "image_id", "11", r"annotations\[0\]\.image_id: Input should be a valid integer"),
    ("annotations", "image_id", 99, r"captions of unknown images: image 99 \(annotation 110"),
    ("annotations", "id", 111, r"duplicate annotation id: 111"),
]


@pytest.mark.parametrize(("where", "key", "value", "message"), WRONG, ids=range(len(WRONG)))
def test_a_wrong_value_is_named(small: SmallDataset, where: str, key: str, value: Any, message: str) -> None:
    small.files["train"][where][0][key] = value
    with pytest.raises(UserError, match=message) as refusal:
        small.build()
    assert str(refusal.value).isprintable()
    assert list(small.root.parent.glob("made/*")) == []


@pytest.mark.parametrize("content", ["7", "null", '"text"', "[]", "{}", '{"images": 3}', '{"images": [[]]}'])
def test_another_shape_of_file(small: SmallDataset, content: str) -> None:
    small.write()
    (small.root / FILES["train"]).write_text(content)
    with pytest.raises(UserError, match=r"captions_train\.json: .*; correct the file"):
        small.build_written()


def test_ids_of_64_bits_stay_what_they_are(small: SmallDataset) -> None:
    """Also those that a float would round."""
    large = 2**63 - 1
    small.files["train"]["images"][0]["id"] = large
    for number, caption in enumerate(small.files["train"]["annotations"][:2]):
        caption |= {"image_id": large, "id": 2**53 + 1 + 2 * number}
    folder = small.build()
    assert read_images(folder)[-1].image_id == large
    assert [caption.annotation_id for caption in read_captions(folder)[large]] == [2**53 + 1, 2**53 + 3]


def test_ids_too_large_to_make_room_for_those_of_nocaps(small: SmallDataset) -> None:
    small.files["train"]["annotations"][0]["id"] = 2**63 - 1
    with pytest.raises(UserError, match=r"must be below 2\^63 - 1000000000: 9223372036854775807"):
        small.build(format="nocaps", images=dict.fromkeys(FILES, "images"))


ODD_CAPTIONS = {
    "10,000 words": ("dog " * 10_000, 10_000),
    "50,000 letters": ("a" * 50_000, 1),
    "control characters": ("a\x00 dog\x07\x1b[31m red\x7f", None),
    "emoji": ("a 👩‍👩‍👧 and a dog 🐕‍🦺", 4),
    "right to left": ("כלב חום \u202eפארק", 3),
    "Arabic": ("كلب بني", 2),
    "Chinese": ("一只狗", 1),
    "line breaks": ("a dog\r\n\u2028on two\u0085lines", 5),
    "combining marks": ("cafe\u0301 with " + "z\u0336" * 50, 3),
    "quotes": ("\"a\" 'dog' “here” ‘now’", 4),
    "markup": ("<b>a dog</b> &amp; <script>alert(1)</script>", None),
    "format": ("%s %d {0} ${HOME} `ls`", None),
}


@pytest.mark.parametrize("what", ODD_CAPTIONS)
def test_a_caption_is_kept_as_it_is(small: SmallDataset, what: str) -> None:
    text, words = ODD_CAPTIONS[what]
    small.files["train"]["annotations"][0]["caption"] = text
    caption = read_captions(small.build())[11][0]
    assert caption.text == text
    assert caption.tokens == ptb_tokenize(text) and (words is None or len(caption.tokens) == words)


def test_long_runs_of_marks_take_no_time() -> None:
    """At each full stop a rule looked through all that follow, and back: 50,000 took 41 seconds, now 5."""
    assert ptb_tokenize("." * 5_000 + " a dog") == ["a", "dog"]


@pytest.mark.parametrize(
    "content",
    [
        b"PK\x03\x04no zip file", b"\x80\x04.", b"\x93NUMPY\x01\x00", b"",
        b"\x93NUMPY\x01\x00\x76\x00" + b"{'descr': '<i8', ((((((".ljust(117) + b"\n",
        b"\x93NUMPY\x01\x00\x76\x00"
        + b"{'descr': '<i8', 'fortran_order': False, 'shape': (99999999999999,), }".ljust(117) + b"\n",
    ],
)  # fmt: skip
def test_an_id_file_that_is_none(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.npy").write_bytes(content)
    with pytest.raises(UserError, match=r"a\.npy is not a NumPy file .*; download or make it again"):
        read_id_file(tmp_path / "a.npy")


def test_a_table_with_a_key_or_a_column_twice(small: SmallDataset) -> None:
    """Python would keep the last one, and the captions of the first would be gone."""
    (small.root / "a.json").write_text('{"11.png": ["A"], "12.png": ["B"], "11.png": ["C"]}')
    with pytest.raises(UserError, match=r"a\.json: one object has the key '11\.png' twice"):
        small.build_written(format="folder", table={"file": "a.json"})
    (small.root / "a.csv").write_text("image,caption,image\n11.png,A,12.png\n")
    with pytest.raises(UserError, match=r"a\.csv: its first line names columns twice: image"):
        small.build_written(format="folder", table={"file": "a.csv"})


def test_own_lists_are_checked_when_they_are_read(small: SmallDataset) -> None:
    """A bit of an image id or of a caption may flip without a trace in the form of the file."""
    folder = small.build()
    for name, read in (("images.json", read_images), ("captions.json", read_captions)):
        path = folder / name
        whole = path.read_text()
        path.write_text(whole.replace("12", "13", 1))
        assert json.loads(path.read_text()) != json.loads(whole)
        refused = rf"{name} is not as it was written: .*run dvc repro -f dataset"
        with pytest.raises(UserError, match=refused):
            read(folder)
        path.write_text(whole[:-30])
        with pytest.raises(UserError, match=refused):
            read(folder)
        path.write_text(whole)
        read(folder)
    assert load_json(folder / "report.json")
    (folder / "images.json.sha256").unlink()
    with pytest.raises(UserError, match=r"images\.json\.sha256 does not exist"):
        read_images(folder)
