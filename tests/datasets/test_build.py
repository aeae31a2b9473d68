"""The COCO reader and the image check: what is made, what is left out, what is refused."""

import shutil
from pathlib import Path

import pytest

from fsgr_model.datasets.normal_form import read_captions, read_images, read_instances
from fsgr_model.runtime.artifacts import load_json, sha256_file
from fsgr_model.runtime.errors import UserError
from tests.worlds.small_dataset import SmallDataset, write_instances


def cut_off(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:200])


def test_normal_form_holds_what_the_files_say(small: SmallDataset) -> None:
    folder = small.build()
    images = read_images(folder)
    assert [(image.image_id, image.split) for image in images] == [
        (11, "train"), (12, "train"), (13, "train"), (14, "train"), (21, "val"), (31, "test"),
    ]  # fmt: skip
    first = images[0]
    file = small.root / "images" / "11.png"
    assert (first.path, first.width, first.height) == (str(file), 12, 9)
    assert (first.bytes, first.sha256) == (file.stat().st_size, sha256_file(file))
    captions = read_captions(folder)
    assert [caption.annotation_id for caption in captions[12]] == [120, 121]
    assert captions[12][1].text == "A blue dog, number 12."
    assert captions[12][1].tokens == ["a", "blue", "dog", "number", "12"]
    assert read_instances(folder) == {"categories": [], "annotations": []}


def test_path_stays_as_the_user_gave_it(small: SmallDataset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(small.root.parent)
    folder = small.build(root="small")
    assert read_images(folder)[0].path == "small/images/11.png"


def test_report_counts_what_is_there(small: SmallDataset, capsys: pytest.CaptureFixture[str]) -> None:
    small.files["train"]["annotations"].append({"id": 7, "image_id": 11, "caption": "Dog!"})
    report = load_json(small.build() / "report.json")
    assert report["splits"] == {
        "train": {"images": 4, "captions": 9},
        "val": {"images": 1, "captions": 2},
        "test": {"images": 1, "captions": 2},
    }
    assert report["captions_per_image"] == {"2": 5, "3": 1}
    assert report["words_per_caption"]["shortest"] == 1
    assert report["words_per_caption"]["median"] == 5
    assert report["skipped_images"] == report["duplicate_images"] == []
    assert "train: 4 images, 9 captions" in capsys.readouterr().out


def test_equal_input_makes_equal_bytes_with_any_number_of_workers(small: SmallDataset) -> None:
    small.files["train"]["images"].reverse()
    cut_off(small.root / "images" / "12.png")
    first = contents(small.build(on_bad_image="skip"))
    second = contents(small.build(workers=2, on_bad_image="skip"))
    assert first == second
    small.files["train"]["images"].sort(key=lambda image: image["id"])
    small.files["train"]["annotations"].reverse()
    assert first == contents(small.build(on_bad_image="skip"))


def contents(folder: Path) -> dict[str, bytes]:
    found = {file.name: file.read_bytes() for file in folder.iterdir() if file.is_file()}
    assert "images.json" in found
    return found


@pytest.mark.parametrize("workers", [0, 2])
def test_all_bad_images_are_listed_at_once(small: SmallDataset, workers: int) -> None:
    (small.root / "images" / "11.png").unlink()
    cut_off(small.root / "images" / "13.png")
    (small.root / "images" / "31.png").write_text("no picture")
    with pytest.raises(UserError) as refusal:
        small.build(workers)
    message = str(refusal.value)
    assert "cannot be decoded, 3 in all: " in message
    assert "11.png (image 11): missing; 13.png (image 13): cannot be decoded" in message
    assert "31.png (image 31): not an image that Pillow can read" in message
    assert "dataset.on_bad_image: skip" in message
    assert not (small.root.parent / "made" / "dataset").exists()


def test_a_skipped_image_is_left_out_everywhere(
    small: SmallDataset, capsys: pytest.CaptureFixture[str]
) -> None:
    cut_off(small.root / "images" / "13.png")
    write_instances(small.root, [11, 13])
    folder = small.build(on_bad_image="skip", instances=["instances.json"])
    assert 13 not in {image.image_id for image in read_images(folder)}
    assert 13 not in read_captions(folder)
    assert {each["image_id"] for each in read_instances(folder)["annotations"]} == {11}
    report = load_json(folder / "report.json")
    assert report["splits"]["train"] == {"images": 3, "captions": 6}
    (skipped,) = report["skipped_images"]
    assert (skipped["image_id"], skipped["split"], skipped["file_name"]) == (13, "train", "13.png")
    assert "cannot be decoded" in skipped["reason"]
    assert "left out: image 13 (train), 13.png: cannot be decoded" in capsys.readouterr().out


def test_skipping_may_not_empty_a_split(small: SmallDataset) -> None:
    (small.root / "images" / "31.png").unlink()
    with pytest.raises(UserError, match="none is left in test"):
        small.build(on_bad_image="skip")


def test_rules_are_checked_before_pictures_are_opened(small: SmallDataset) -> None:
    small.files["val"] = {"images": [], "annotations": []}
    (small.root / "images" / "11.png").unlink()
    with pytest.raises(UserError, match="none is left in val"):
        small.build()


def test_same_bytes_in_two_splits(small: SmallDataset, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copy(small.root / "images" / "12.png", small.root / "images" / "31.png")
    (group,) = load_json(small.build() / "report.json")["duplicate_images"]
    assert group["across_splits"]
    assert [(image["image_id"], image["split"]) for image in group["images"]] == [(12, "train"), (31, "test")]
    assert "12.png (train) = 31.png (test)" in capsys.readouterr().out
    with pytest.raises(
        UserError, match=r"the same bytes: 12\.png \(train\) = 31\.png \(test\); remove all but"
    ):
        small.build(on_duplicate_image="fail")


def test_same_bytes_in_one_split_are_no_leak(small: SmallDataset) -> None:
    shutil.copy(small.root / "images" / "12.png", small.root / "images" / "14.png")
    (group,) = load_json(small.build() / "report.json")["duplicate_images"]
    assert not group["across_splits"]


def test_missing_root_images_and_files(small: SmallDataset) -> None:
    small.write()
    with pytest.raises(UserError, match=r"dataset\.root: there is no folder .*nowhere; .* -S dataset\.root="):
        small.build_written(root=str(small.root / "nowhere"))
    with pytest.raises(UserError, match=r"dataset\.images: there is no folder .*photos"):
        small.build_written(images="photos")
    (small.root / "captions_test.json").unlink()
    with pytest.raises(UserError, match=r"captions_test\.json does not exist"):
        small.build_written()


def test_a_failed_run_keeps_the_dataset_made_before(small: SmallDataset) -> None:
    before = (small.build() / "images.json").read_bytes()
    (small.root / "images" / "11.png").unlink()
    with pytest.raises(UserError):
        small.build()
    place = small.root.parent / "made" / "dataset"
    assert (place / "images.json").read_bytes() == before
    assert [folder.name for folder in place.parent.iterdir()] == ["dataset"]
