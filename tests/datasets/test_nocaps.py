"""nocaps: COCO's training captions, a test split of three domains, with ten references or with none."""

import json
from typing import Any

import pytest
from pydantic import ValidationError

from fsgr_model.datasets.nocaps import COCO_IDS_FROM
from fsgr_model.datasets.normal_form import read_captions, read_images
from fsgr_model.runtime.artifacts import load_json
from fsgr_model.runtime.errors import UserError
from tests.worlds.small_dataset import FILES, SmallDataset, draw_noise

FOLDERS = {"train": "images", "val": "images", "test": "nocaps"}
NAME = "nocaps_val_4500_captions.json"
DOMAINS = ("in-domain", "near-domain", "out-domain")


@pytest.fixture
def nocaps(small: SmallDataset) -> dict[str, Any]:
    """The file of nocaps: ids from 0, which COCO uses too; pictures in a folder of their own."""
    small.files["train"]["images"][0]["id"] = 1
    for caption in small.files["train"]["annotations"][:2]:
        caption["image_id"] = 1
    small.files["train"]["annotations"][0]["id"] = 20
    (small.root / "nocaps").mkdir()
    content: dict[str, Any] = {"info": {}, "licenses": [], "images": [], "annotations": []}
    for number, domain in enumerate(DOMAINS):
        name = f"0013ea2087020{number:03}.jpg"
        draw_noise(small.root / "nocaps" / name, 70 + number)
        content["images"].append(
            {"id": number, "file_name": name, "domain": domain, "open_images_id": name[:-4], "width": 12}
        )
        for each in range(10):
            caption = f"A novel thing, number {each}."
            content["annotations"].append({"id": 10 * number + each, "image_id": number, "caption": caption})
    return content


def build(small: SmallDataset, content: dict[str, Any], **changes: Any) -> Any:
    (small.root / NAME).write_text(json.dumps(content))
    return small.build(format="nocaps", images=FOLDERS, captions=FILES | {"test": NAME}, **changes)


def test_nocaps_keeps_its_ids_and_coco_gives_way(small: SmallDataset, nocaps: dict[str, Any]) -> None:
    folder = build(small, nocaps)
    assert {image.image_id: image.domain for image in read_images(folder, "test")} == {
        0: "in", 1: "near", 2: "out",
    }  # fmt: skip
    trained = [COCO_IDS_FROM + each for each in (1, 12, 13, 14)]
    assert [image.image_id for image in read_images(folder, "train")] == trained
    captions = read_captions(folder)
    assert [caption.annotation_id for caption in captions[2]] == list(range(20, 30))
    assert [caption.annotation_id for caption in captions[trained[0]]] == [
        COCO_IDS_FROM + 20, COCO_IDS_FROM + 111,
    ]  # fmt: skip
    assert str(COCO_IDS_FROM) in load_json(folder / "report.json")["notes"][0]


def test_the_file_of_the_test_server(small: SmallDataset, nocaps: dict[str, Any]) -> None:
    """Neither references nor domains."""
    del nocaps["annotations"]
    for image in nocaps["images"]:
        del image["domain"]
    folder = build(small, nocaps)
    assert [image.domain for image in read_images(folder, "test")] == ["", "", ""]
    assert not {0, 1, 2} & read_captions(folder).keys()


@pytest.mark.parametrize(("domain", "shown"), [("far-domain", "'far-domain'"), ("", "'none'")])
def test_a_domain_that_nocaps_does_not_have(
    small: SmallDataset, nocaps: dict[str, Any], domain: str, shown: str
) -> None:
    nocaps["images"][1]["domain"] = domain
    with pytest.raises(UserError, match=rf"domain must be one of .*; found {shown} \(image 1\)"):
        build(small, nocaps)


def test_nocaps_has_no_masks(small: SmallDataset, nocaps: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match="format nocaps has no masks"):
        build(small, nocaps, instances=["instances.json"])
