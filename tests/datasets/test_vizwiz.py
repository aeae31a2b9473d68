"""VizWiz-Captions: canned and rejected captions are neither trained on nor scored; fixtures of our own."""

import json
from pathlib import Path
from typing import Any

import pytest

from fsgr_model.datasets.normal_form import read_captions, read_images
from fsgr_model.runtime.artifacts import load_json
from fsgr_model.runtime.errors import UserError
from fsgr_model.scoring.coco_files import ScoredFiles, read_reference_file, score_files
from fsgr_model.scoring.comparison import References, load_system
from tests.worlds.small_dataset import SmallDataset

CANNED = "Quality issues are too severe to recognize visual content."


def mark(small: SmallDataset, split: str, **marks: Any) -> None:
    """Give every annotation of a split marks as VizWiz has them: of its first image other ones."""
    first = small.files[split]["images"][0]["id"]
    for annotation in small.files[split]["annotations"]:
        annotation |= {"is_precanned": False, "is_rejected": False, "text_detected": True}
        if annotation["image_id"] == first:
            annotation |= marks


def test_marked_captions_are_not_trained_on(small: SmallDataset) -> None:
    mark(small, "train", is_precanned=True)
    mark(small, "val")
    small.files["val"]["annotations"][1] |= {"is_precanned": True, "is_rejected": True}
    small.files["test"]["annotations"][0] |= {"is_precanned": None, "is_rejected": 1}
    folder = small.build()
    assert [image.image_id for image in read_images(folder)] == [12, 13, 14, 21, 31]
    captions = read_captions(folder)
    assert [each.annotation_id for each in captions[21]] == [210]
    assert [each.annotation_id for each in captions[31]] == [311]
    train, val, test = load_json(folder / "report.json")["notes"]
    assert train == (
        "captions_train.json: captions left out, as VizWiz's own API does: 2 canned (is_precanned), "
        "0 rejected (is_rejected); images that have no other, left out as well: 11"
    )
    for note in (val, test):
        assert note.endswith(": 0 canned (is_precanned), 1 rejected (is_rejected)")


def test_an_image_that_never_had_a_caption_is_still_refused(small: SmallDataset) -> None:
    mark(small, "train", is_rejected=True)
    small.files["train"]["images"].append({"id": 15, "file_name": "11.png"})
    with pytest.raises(UserError, match="images without captions: 15"):
        small.build()


def write(path: Path, content: Any) -> Path:
    path.write_text(json.dumps(content))
    return path


def reference_file(marked: bool) -> dict[str, Any]:
    """Three images; the third has canned captions only. Unmarked is what is left of it."""
    good = [
        (1, "a can of beans"), (1, "beans in a can"), (2, "the keys of a laptop"), (2, "a laptop keyboard"),
    ]  # fmt: skip
    bad = [
        (1, CANNED, True, False),
        (2, "asdf", False, True),
        (3, CANNED, True, False),
        (3, CANNED, True, False),
    ]
    rows = [{"image_id": number, "caption": text, "is_precanned": False, "is_rejected": False}
            for number, text in good]  # fmt: skip
    if marked:
        rows += [
            {"image_id": number, "caption": text, "is_precanned": canned, "is_rejected": rejected}
            for number, text, canned, rejected in bad
        ]
    return {"images": [{"id": number} for number in ((1, 2, 3) if marked else (1, 2))], "annotations": rows}


RESULTS = [(1, "a can of green beans"), (2, "a keyboard"), (3, CANNED)]


def test_scores_are_those_without_the_marked_captions(tmp_path: Path) -> None:
    results = [{"image_id": number, "caption": text} for number, text in RESULTS]
    marked = write(tmp_path / "marked.json", reference_file(True))
    plain = write(tmp_path / "plain.json", reference_file(False))
    everything = write(tmp_path / "all.json", results)
    two = write(tmp_path / "two.json", results[:2])
    wanted, _ = score_files(ScoredFiles(plain, two), meteor="off", tokenizer="python")
    for given in (everything, two):
        report, by_image = score_files(ScoredFiles(marked, given), meteor="off", tokenizer="python")
        assert report["CIDEr"] == wanted["CIDEr"] > 0 and report["Bleu_4"] == wanted["Bleu_4"]
        assert (report["images"], by_image.image_ids) == (2, [1, 2])
        (told,) = [fact["value"] for fact in report["provenance"] if fact["what"] == "references"]
        assert "3 canned (is_precanned), 1 rejected (is_rejected); images that have no other" in told
        assert told.endswith(": 3")
    assert not [fact for fact in wanted["provenance"] if fact["what"] == "references"]
    references = References(read_reference_file(marked), None, "python")
    assert load_system(str(everything), "scst", tmp_path, references).image_ids == [1, 2]
    assert "3 canned" in references.file.facts[0]["value"]


def test_a_stranger_is_a_stranger_though_it_is_marked(tmp_path: Path) -> None:
    content = reference_file(True)
    content["images"].pop()
    with pytest.raises(UserError, match="captions of images that it does not list: 3"):
        read_reference_file(write(tmp_path / "marked.json", content))
