"""Result files and caption files: what is read, and the one real reason why another is not."""

import json
from pathlib import Path
from typing import Any

import pytest

from fsgr_model.runtime.errors import UserError
from fsgr_model.scoring.coco_files import ScoredFiles, read_reference_file, score_files
from fsgr_model.scoring.result_file import read_results

ROW = {"image_id": 7, "caption": "a dog"}
CAPTIONS = {"images": [{"id": 7}, {"id": 9}], "annotations": [ROW, {"image_id": 9, "caption": "a red kite"}]}
LINES = '{"image_id": 7, "caption": "a dog"}\n{"image_id": 9, "caption": "a cat"}\n'


def write(folder: Path, content: Any, name: str = "file.json") -> Path:
    path = folder / name
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "is empty"),
        ([], "has no captions"),
        ({}, "is an empty object"),
        ({"7": "a dog", "9": "a cat"}, "is an object that gives image ids captions"),
        ({"annotations": [ROW]}, "is an object with `annotations` and no `images`"),
        (CAPTIONS, "is a COCO caption file; a result file is one JSON list"),
        ({"images": [{"id": 7, "sentences": []}]}, "is a file of Karpathy's"),
        ({"results": [ROW], "seed": 1}, "is an object with the keys results; seed"),
        (LINES, "is JSON lines, one object per line"),
        (["a dog"], "entry 0 of the list is no object: 'a dog'"),
        (
            [ROW, {"id": 9, "caption": "a cat"}],
            "image_id: missing in entry 1 of the list, which has id;",
        ),
        ([{"image_id": "7", "caption": "a dog"}], "whole number .* without quotes.*; found '7' .entry 0.$"),
        ([{"image_id": 7.0, "caption": "a dog"}], "whole number .*; found 7.0 .entry 0.$"),
        ([{"image_id": True, "caption": "a dog"}], "whole number .*; found True"),
        ([{"image_id": None, "caption": "a dog"}], "whole number .*; found None"),
        ([{"image_id": 7, "caption": ["a dog"]}], r"caption must be a text; found \['a dog'\] .entry 0.$"),
        ('[{"image_id": 7, "caption": NaN}]', "caption must be a text; found nan"),
        ([ROW, ROW], "images with more: 7; keep one"),
    ],
)
def test_what_is_no_result_file_is_told_by_its_kind(tmp_path: Path, content: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        read_results(write(tmp_path, content))


def test_a_byte_order_mark_and_keys_of_other_programs_pass(tmp_path: Path) -> None:
    rows = [ROW | {"id": 1, "score": -1.5}]
    assert read_results(write(tmp_path, "\ufeff" + json.dumps(rows))) == {7: "a dog"}


def test_one_result_on_one_line_is_no_json_lines(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is an object with the keys image_id; caption"):
        read_results(write(tmp_path, ROW))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (LINES, "is JSON lines, one object per line; references are"),
        ([ROW], "is a list of results; references are a COCO caption file"),
        ({"images": [{"id": 7}]}, "is a list of images without captions"),
        (
            {"images": [{"id": 7}], "annotations": [{"image_id": 7, "category_id": 1}]},
            "is a COCO instance file",
        ),
        ({"annotations": [ROW]}, "is an object with `annotations` and no `images`"),
    ],
)
def test_what_holds_no_references_is_told_by_its_kind(tmp_path: Path, content: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        read_reference_file(write(tmp_path, content))


def karpathy(folder: Path) -> Path:
    def image(number: int, split: str, text: str) -> dict[str, Any]:
        sentence = {"raw": text, "sentid": number, "imgid": number, "tokens": text.split()}
        name = f"COCO_val2014_{70 + number:012}.jpg"
        return {
            "filename": name,
            "filepath": "val2014",
            "split": split,
            "sentences": [sentence],
            "imgid": number,
            "cocoid": 70 + number,
        }

    rows = [
        image(0, "test", "a dog runs"),
        image(1, "test", "a red kite"),
        image(2, "val", "two cats"),
        image(3, "restval", "a blue boat"),
    ]
    return write(folder, {"dataset": "coco", "images": rows}, "dataset_coco.json")


def test_karpathys_file_serves_by_its_split(tmp_path: Path) -> None:
    path = karpathy(tmp_path)
    file = read_reference_file(path)
    assert file.texts == {70: ["a dog runs"], 71: ["a red kite"]}
    assert file.facts == [{"what": "split of the references", "value": "test: 2 of 4 images"}]
    assert read_reference_file(path, "val").texts == {72: ["two cats"]}
    assert read_reference_file(path, "train").texts == {73: ["a blue boat"]}
    assert len(read_reference_file(path, "all").texts) == 4


def test_a_caption_file_has_no_split_and_karpathys_may_lack_one(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="a COCO caption file, which has no splits; leave out --split"):
        read_reference_file(write(tmp_path, CAPTIONS), "test")
    rows = json.loads(karpathy(tmp_path).read_text())
    rows["images"] = rows["images"][2:3]
    with pytest.raises(UserError, match="no images of split test, but of val; name one by --split"):
        read_reference_file(write(tmp_path, rows))


def scored(references: Path, results: dict[int, str], **options: Any) -> dict[str, Any]:
    rows = [{"image_id": image_id, "caption": text} for image_id, text in results.items()]
    path = write(references.parent, rows, "results.json")
    files = ScoredFiles(references, path, **options)
    report, _ = score_files(files, meteor="off", tokenizer="python")
    return report | {row["what"]: row["value"] for row in report["provenance"]}


THREE = {
    "images": [{"id": number, "file_name": f"{number}.jpg"} for number in (1, 2, 3)],
    "annotations": [
        {"image_id": 1, "caption": "a dog runs on the beach"},
        {"image_id": 2, "caption": "two cats sleep on a bed"},
        {"image_id": 3, "caption": "a man rides a horse"},
    ],
}


def test_a_part_is_scored_on_request_as_if_it_were_all(tmp_path: Path) -> None:
    results = {1: "a dog on the beach", 2: "two dogs sleep on a bed"}
    part = THREE | {"images": THREE["images"][:2], "annotations": THREE["annotations"][:2]}
    alone = scored(write(tmp_path, part, "part.json"), results)
    of_three = scored(write(tmp_path, THREE), results, subset=True)
    for metric in ("CIDEr", "Bleu_4", "ROUGE_L", "images"):
        assert of_three[metric] == alone[metric]
    assert of_three["subset"] == "2 of 3 images, those with a result"
    assert "subset" not in alone


def test_the_refusal_of_a_part_names_the_option(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no result: 2, 3; --subset scores the 1 images that have a result"):
        scored(write(tmp_path, THREE), {1: "a dog"})
    with pytest.raises(UserError, match=r"but no references: 4; the references are .*file\.json$"):
        scored(write(tmp_path, THREE), {1: "a dog", 4: "a cat"}, subset=True)


def test_the_refusal_names_the_split(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"belong to other images.*--split test of .*dataset_coco\.json"):
        scored(karpathy(tmp_path), {72: "two cats"})


def test_results_numbered_through_are_said_to_be_so(tmp_path: Path) -> None:
    moved = {
        "images": [{"id": 10 * image["id"]} for image in THREE["images"]],
        "annotations": [{**row, "image_id": 10 * row["image_id"]} for row in THREE["annotations"]],
    }
    with pytest.raises(UserError, match=r"image ids \(0, 1, 2\).*look like indices into a list"):
        scored(write(tmp_path, moved), {0: "a dog", 1: "two cats", 2: "a man"})


def test_an_image_with_neither_has_one_reason(tmp_path: Path) -> None:
    bare = THREE | {"annotations": THREE["annotations"][:2]}
    results = {1: "a dog", 2: "two cats"}
    with pytest.raises(UserError) as refused:
        scored(write(tmp_path, bare), results)
    said = str(refused.value)
    assert "1 images have neither a reference nor a result: 3" in said
    assert "no result" not in said and "empty list" not in said
    assert scored(write(tmp_path, bare), results, subset=True)["images"] == 2


def instances(*images: int, names: str = "{}.jpg") -> dict[str, Any]:
    return {
        "images": [{"id": number, "file_name": names.format(number)} for number in images],
        "categories": [{"id": 1, "name": "dog"}, {"id": 2, "name": "cat"}, {"id": 3, "name": "horse"}],
        "annotations": [{"image_id": number, "category_id": 1} for number in images[:1]],
    }


RIGHT = {1: "a dog", 2: "two cats", 3: "a horse"}


def test_instances_of_all_images_give_chair(tmp_path: Path) -> None:
    path = write(tmp_path, instances(1, 2, 3, 4), "instances.json")
    assert scored(write(tmp_path, THREE), RIGHT, instances=path)["CHAIRi"] == 0
    names = write(tmp_path, instances(1, 2, 3, names="COCO_val2014_{}.jpg"), "instances.json")
    assert scored(write(tmp_path, THREE), RIGHT, instances=names)["CHAIRi"] == 0


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            instances(101, 102, 103),
            r"lists none of the scored images \(1, 2, 3\): its objects belong to",
        ),
        (instances(1), "lists 1 of the 3 scored images; without 2, 3 their objects would count as invented"),
        (instances(1, 2, 3, names="9{}.jpg"), "image 1 is 91.jpg there, 1.jpg in the references"),
        ({"images": [], "annotations": []}, "has no `categories`"),
        (instances(1, 2, 3) | {"categories": []}, "objects of categories that it does not list: 1"),
        (instances(1, 2, 3) | {"images": []}, "lists 1 of the 3 scored images"),
        (THREE, "has no `categories`; it is a COCO caption file"),
    ],
)
def test_instances_of_other_images_are_refused(tmp_path: Path, content: Any, message: str) -> None:
    path = write(tmp_path, content, "instances.json")
    with pytest.raises(UserError, match=message):
        scored(write(tmp_path, THREE), RIGHT, instances=path)


def test_with_a_subset_the_instances_need_its_images_only(tmp_path: Path) -> None:
    path = write(tmp_path, instances(1, 2), "instances.json")
    report = scored(write(tmp_path, THREE), {1: "a dog", 2: "a dog"}, instances=path, subset=True)
    assert report["CHAIRi"] == 0.5
