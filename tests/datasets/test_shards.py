"""WebDataset shards: samples by key, captions as text or JSON, pictures unpacked."""

import io
import json
import shutil
import tarfile
from collections import namedtuple
from pathlib import Path
from typing import Any

import pytest

from fsgr_model.datasets.normal_form import read_captions, read_images
from fsgr_model.runtime import artifacts
from fsgr_model.runtime.artifacts import load_json
from fsgr_model.runtime.errors import UserError
from tests.worlds.small_dataset import SmallDataset

SHARDS = {"train": "shards/train-*.tar", "val": "shards/val.tar", "test": "shards/test.tar"}


def write_shard(path: Path, members: dict[str, bytes]) -> None:
    path.parent.mkdir(exist_ok=True)
    with tarfile.open(path, "w") as archive:
        for name, content in members.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))


@pytest.fixture
def members(small: SmallDataset) -> dict[str, dict[str, bytes]]:
    """Two training shards that use the same keys, one for each other split; to be changed, then written."""
    numbers = (11, 12, 13, 21, 31)
    picture = {each: (small.root / "images" / f"{each}.png").read_bytes() for each in numbers}
    shutil.rmtree(small.root / "images")
    return {
        "train-0.tar": {
            "./000000.png": picture[11],
            "./000000.txt": b"Two dogs,\none brown.\n",
            "./000000.json": b'{"caption": "A dog.", "url": "http://x"}',
            "./000001.PNG": picture[12],
            "./000001.json": json.dumps({"captions": ["Café", "A cat."]}).encode(),
        },
        "train-1.tar": {"000000.png": picture[13], "000000.json": b'{"caption": "A cow.", "key": "0"}'},
        "val.tar": {"a/b.seg.png": b"a mask", "a/b.cls": b"7", "a/b.png": picture[21], "a/b.txt": b"A hen."},
        "test.tar": {"x.png": picture[31], "x.txt": b"A pig."},
    }  # fmt: skip


def build(small: SmallDataset, members: dict[str, dict[str, bytes]], **changes: Any) -> Path:
    for name, content in members.items():
        write_shard(small.root / "shards" / name, content)
    return small.build_written(**{"format": "webdataset", "shards": SHARDS, **changes})


def test_samples_of_all_shards(small: SmallDataset, members: dict[str, dict[str, bytes]]) -> None:
    folder = build(small, members)
    images = read_images(folder)
    assert [(image.image_id, image.split) for image in images] == [
        (1, "train"), (2, "train"), (3, "train"), (4, "val"), (5, "test"),
    ]  # fmt: skip
    captions = read_captions(folder)
    assert [caption.text for caption in captions[1]] == ["A dog."]
    assert [caption.text for caption in captions[2]] == ["Café", "A cat."]
    assert [captions[number][0].text for number in (3, 4, 5)] == ["A cow.", "A hen.", "A pig."]


def test_pictures_are_unpacked_where_the_manifest_says(
    small: SmallDataset, members: dict[str, dict[str, bytes]]
) -> None:
    folder = build(small, members)
    images = read_images(folder)
    assert [str(Path(image.path).relative_to(folder)) for image in images] == [
        "images/shards/train-0/000000.png", "images/shards/train-0/000001.PNG",
        "images/shards/train-1/000000.png", "images/shards/val/a/b.png", "images/shards/test/x.png",
    ]  # fmt: skip
    assert Path(images[1].path).read_bytes() == members["train-0.tar"]["./000001.PNG"]
    assert Path(images[3].path).read_bytes() == members["val.tar"]["a/b.png"]
    assert load_json(folder / "report.json")["notes"] == [
        "unpacked 5 pictures of 4 shards, 0.000 GB",
        "1 samples say something else in .txt than in .json, which was taken",
        "members that were passed over: 1 of kind cls; 1 of kind seg.png",
    ]


LINES = "A poster:\r\nGRAND\u2028SALE\x0cnow on\n"


@pytest.mark.parametrize("a_line", [False, True])
def test_a_text_is_one_caption_unless_a_parameter_says_one_per_line(
    small: SmallDataset, members: dict[str, dict[str, bytes]], a_line: bool
) -> None:
    members["val.tar"]["a/b.txt"] = LINES.encode()
    folder = build(small, members, shards=SHARDS | {"caption_per_line": a_line})
    texts = [caption.text for caption in read_captions(folder)[4]]
    words = [["a", "poster"], ["grand", "sale", "now", "on"]]
    assert len(texts) == (2 if a_line else 1)
    tokens = [caption.tokens for caption in read_captions(folder)[4]]
    assert tokens == (words if a_line else [words[0] + words[1]])


def test_keys_end_at_the_first_dot(small: SmallDataset, members: dict[str, dict[str, bytes]]) -> None:
    content = members["val.tar"]
    members["val.tar"] = {"s.input.png": content["a/b.png"], "s.outputs.txt": b"A hen."}
    assert read_captions(build(small, members))[4][0].text == "A hen."


def test_a_test_shard_without_captions(small: SmallDataset, members: dict[str, dict[str, bytes]]) -> None:
    del members["test.tar"]["x.txt"]
    folder = build(small, members)
    assert read_captions(folder).keys() == {1, 2, 3, 4}


@pytest.mark.parametrize(
    ("shard", "name", "content", "message"),
    [
        (
            "val.tar",
            "c.txt",
            b"No picture.",
            r"val\.tar: samples without a picture \(avif, .*\): c \(txt\); make",
        ),
        ("val.tar", "a/b.jpg", b"jpg", r"val\.tar: one sample has two pictures, a/b\.png and a/b\.jpg"),
        ("test.tar", "x.txt", b"\xff", r"test\.tar: x\.txt is not UTF-8 text"),
        ("test.tar", "x.json", b"{", r"test\.tar: x\.json is not valid JSON"),
        ("test.tar", "x.json", b'{"captions": 7}', r"test\.tar: x\.json needs `captions`"),
        ("test.tar", "x.json", b'["A dog."]', r"test\.tar: x\.json needs `captions`"),
        ("train-1.tar", "000000.json", b"{}", r"images without captions: 3 .* in shards/train-1\.tar"),
        ("train-1.tar", "000000.json", b'{"caption": null}', r"images without captions: 3 .*train-1\.tar"),
        ("train-1.tar", "../../y.png", b"png", r"file names must be relative"),
    ],
)
def test_a_bad_sample(
    small: SmallDataset,
    members: dict[str, dict[str, bytes]],
    shard: str,
    name: str,
    content: bytes,
    message: str,
) -> None:
    members[shard][name] = content
    with pytest.raises(UserError, match=message):
        build(small, members)
    assert not (small.root.parent / "made" / "dataset").exists()


def test_a_picture_that_does_not_decode_is_named(
    small: SmallDataset, members: dict[str, dict[str, bytes]]
) -> None:
    members["train-1.tar"]["000001.jpg"] = b"<html>"
    members["train-1.tar"]["000001.txt"] = b"A dog."
    with pytest.raises(UserError, match=r"shards/train-1/000001\.jpg \(image 4\): not an image"):
        build(small, members)
    folder = build(small, members, on_bad_image="skip")
    assert [image.image_id for image in read_images(folder, "train")] == [1, 2, 3]


@pytest.mark.parametrize("kept", [700, 1500, 0])
def test_a_shard_cut_short(small: SmallDataset, members: dict[str, dict[str, bytes]], kept: int) -> None:
    build(small, members)
    shard = small.root / "shards" / "train-0.tar"
    shard.write_bytes(shard.read_bytes()[:kept])
    with pytest.raises(UserError, match=r"train-0\.tar is not a complete tar file"):
        small.build_written(format="webdataset", shards=SHARDS)


def test_a_link_is_not_followed(small: SmallDataset, members: dict[str, dict[str, bytes]]) -> None:
    build(small, members)
    with tarfile.open(small.root / "shards" / "val.tar", "a") as archive:
        entry = tarfile.TarInfo("c.png")
        entry.type, entry.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(entry)
    with pytest.raises(UserError, match=r"c\.png is a link, not a file"):
        small.build_written(format="webdataset", shards=SHARDS)


def test_no_shard_and_too_little_space(
    small: SmallDataset, members: dict[str, dict[str, bytes]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(artifacts.shutil, "disk_usage", lambda folder: namedtuple("usage", "free")(100))
    with pytest.raises(UserError, match=r"MB more, but its disk has 0\.00 MB free"):
        build(small, members)
    (small.root / "shards" / "val.tar").unlink()
    with pytest.raises(UserError, match=r"dataset\.shards\.val: no file below .* matches 'shards/val\.tar'"):
        small.build_written(format="webdataset", shards=SHARDS)
