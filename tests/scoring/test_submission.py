"""Result files that the servers' own reader accepts, and what is refused before it gets there."""

import contextlib
import io
import json
import re
from pathlib import Path
from typing import Any

import pytest
from pycocotools.coco import COCO

from fsgr_model.runtime.errors import UserError
from fsgr_model.scoring.submission import write_results

IMAGES = {
    "images": [
        {"id": 42, "file_name": "COCO_val2014_000000000042.jpg"},
        {"id": 7, "file_name": "COCO_val2014_000000000007.jpg"},
    ],
    "annotations": [{"id": 1, "image_id": 42, "caption": "a boat"}],
}
RESULTS = [{"image_id": 42, "caption": "a boat at sea"}, {"image_id": 7, "caption": "a red kite"}]
LINES = [
    {"path": "val2014/COCO_val2014_000000000007.jpg", "caption": "a red kite", "log_probability": -1.5},
    {"path": "/disk/val2014/COCO_val2014_000000000042.jpg", "caption": "a boat at sea"},
]


def write(folder: Path, captions: Any = RESULTS, split: str = "val2014", name: str = "mine") -> Path:
    (folder / "images.json").write_text(json.dumps(IMAGES))
    text = captions if isinstance(captions, str) else json.dumps(captions)
    (folder / "captions.json").write_text(text)
    return write_results(
        folder / "captions.json", images=folder / "images.json", split=split, name=name, folder=folder / "out"
    )


def as_lines(rows: list[dict[str, Any]]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


@pytest.mark.parametrize("captions", [RESULTS, as_lines(LINES)])
def test_the_official_reader_accepts_it(tmp_path: Path, captions: Any) -> None:
    path = write(tmp_path, captions)
    assert path.name == "captions_val2014_mine_results.json"
    with contextlib.redirect_stdout(io.StringIO()):
        loaded = COCO(tmp_path / "images.json").loadRes(str(path))
    assert {row["image_id"]: row["caption"] for row in loaded.anns.values()} == {
        42: "a boat at sea",
        7: "a red kite",
    }
    assert [list(row) for row in json.loads(path.read_text())] == [["image_id", "caption"]] * 2


@pytest.mark.parametrize(
    ("split", "name"),
    [
        ("test2014", "captions_test2014_m-1.0_results.json"),
        ("nocaps_val", "nocaps_val_m-1.0_results.json"),
        ("nocaps_test", "nocaps_test_m-1.0_results.json"),
    ],
)
def test_names(tmp_path: Path, split: str, name: str) -> None:
    assert write(tmp_path, split=split, name="m-1.0").name == name


@pytest.mark.parametrize(
    ("captions", "message"),
    [
        (RESULTS[:1], "1 images of .* without a caption: 7"),
        ([*RESULTS, {"image_id": 8, "caption": "x"}], "1 captions of images that .* does not list: 8"),
        ([*RESULTS, RESULTS[0]], "images with more: 42"),
        ([RESULTS[0], {"image_id": 7, "caption": " "}], "1 captions without a word: 7"),
        ([RESULTS[0], {"image_id": "7", "caption": "x"}], "image_id"),
        (as_lines([*LINES, LINES[0]]), "more than one caption: val2014/COCO_val2014_000000000007.jpg"),
        (as_lines([*LINES, {"path": "other.jpg", "caption": "x"}]), "does not name: other.jpg"),
        (as_lines(LINES) + '{"path": 3', "line 3 is no caption"),
    ],
)
def test_what_the_server_would_refuse_is_not_written(tmp_path: Path, captions: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        write(tmp_path, captions)
    assert not (tmp_path / "out").exists()


def export(folder: Path, file_names: list[str], rows: list[dict[str, Any]]) -> dict[int, str]:
    """Captions by image id of the written file; the images are numbered from 1."""
    images = [{"id": number, "file_name": name} for number, name in enumerate(file_names, start=1)]
    (folder / "list.json").write_text(json.dumps({"images": images}))
    (folder / "captions.jsonl").write_text(as_lines(rows))
    path = write_results(
        folder / "captions.jsonl",
        images=folder / "list.json",
        split="val2014",
        name="mine",
        folder=folder / "out",
    )
    return {row["image_id"]: row["caption"] for row in json.loads(path.read_text())}


def lines(**captions: str) -> list[dict[str, Any]]:
    return [{"path": path, "caption": caption} for path, caption in captions.items()]


@pytest.mark.parametrize(
    ("file_names", "paths"),
    [
        (["a/0001.jpg", "b/0001.jpg"], ["pics/a/0001.jpg", "pics/b/0001.jpg"]),
        (["0001.jpg", "b/0001.jpg"], ["pics/a/0001.jpg", "pics/b/0001.jpg"]),
        (["a/0001.jpg", "b/0001.jpg"], ["C:\\pics\\a\\0001.jpg", "C:\\pics\\b\\0001.jpg"]),
        (["val2014/1.jpg", "val2014/2.jpg"], ["/disk/1.jpg", "2.jpg"]),
        (
            ["COCO_val2014_000000000042.jpg", "COCO_val2014_000000000073.jpg"],
            ["val2017/000000000042.jpg", "val2017/000000000073.jpg"],
        ),
    ],
)
def test_a_picture_is_known_by_its_path(tmp_path: Path, file_names: list[str], paths: list[str]) -> None:
    found = export(tmp_path, file_names, lines(**{paths[0]: "a boat", paths[1]: "a kite"}))
    assert found == {1: "a boat", 2: "a kite"}


@pytest.mark.parametrize(
    ("file_names", "rows", "message"),
    [
        (
            ["a/1.jpg", "b/1.jpg"],
            lines(**{"c/1.jpg": "x"}),
            "several images of the list are .*c/1.jpg",
        ),
        (
            ["1.jpg"],
            lines(**{"a/1.jpg": "x", "b/1.jpg": "y"}),
            "two pictures for one .*a/1.jpg and b/1.jpg",
        ),
        (
            ["1.jpg", "1.jpg"],
            lines(**{"1.jpg": "x"}),
            "two images of the list have the same file name",
        ),
        ([], lines(**{"1.jpg": "x"}), "list.json is a list of images"),
        (["1.jpg"], [{"path": "1.jpg", "caption": None}], "line 1: path and caption must be texts"),
        (
            ["1.jpg"],
            [{"image_id": 1, "caption": "x"}] * 2,
            "line 1 is no caption of fsgr caption",
        ),
        (["1.jpg"], lines(**{"1.jpg": "..."}), "1 captions without a word: 1"),
    ],
)
def test_lines_that_fit_no_image_say_why(
    tmp_path: Path, file_names: list[str], rows: list[dict[str, Any]], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        export(tmp_path, file_names, rows)
    assert not (tmp_path / "out").exists()


def test_captions_of_another_list_and_other_kinds_of_files(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"none of their image ids \(1\) is one of .*images\.json \(7, 42\)"):
        write(tmp_path, [{"image_id": 1, "caption": "a boat"}])
    with pytest.raises(UserError, match="is an object that gives image ids captions"):
        write(tmp_path, {"42": "a boat", "7": "a kite"})
    (tmp_path / "list.json").write_text(json.dumps(RESULTS))
    with pytest.raises(UserError, match="is a list of results; a list of images has `images`"):
        write_results(
            tmp_path / "captions.json",
            images=tmp_path / "list.json",
            split="val2014",
            name="mine",
            folder=tmp_path,
        )


@pytest.mark.parametrize("name", ["", "my model", "a_b", "../up"])
def test_a_name_that_would_not_be_understood(tmp_path: Path, name: str) -> None:
    with pytest.raises(UserError, match=re.escape(repr(name))):
        write(tmp_path, name=name)


def test_captions_may_come_through_a_pipe_that_is_read_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = tmp_path / "images.json"
    images.write_text(json.dumps({"images": [{"id": 1, "file_name": "a.jpg"}]}))
    for name, text in (
        ("lines", json.dumps({"path": "a.jpg", "caption": "a dog"}) + "\n"),
        ("results", json.dumps([{"image_id": 1, "caption": "a dog"}])),
    ):
        (tmp_path / name).write_text(text)
        read, plain = [], Path.read_bytes
        monkeypatch.setattr(
            Path, "read_bytes", lambda path, read=read, plain=plain: read.append(path) or plain(path)
        )
        write_results(tmp_path / name, images=images, split="val2014", name=name, folder=tmp_path)
        monkeypatch.undo()
        assert read.count(tmp_path / name) == 1
