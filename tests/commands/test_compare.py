"""`python -m fsgr_model compare` with result files, as a user runs it."""

import json
import sys
from pathlib import Path

import dvc.api
import pytest
from dvc_data.index import DataIndexDirError
from PIL import Image

from fsgr_model.commands import compare
from fsgr_model.runtime.errors import UserError, run_command
from fsgr_model.scoring.coco_files import read_reference_file
from fsgr_model.scoring.comparison import References, read_at_revision
from fsgr_model.scoring.result_file import read_json
from tests.scoring.test_evaluation import SPOKEN, TEXTS, make_data


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """Run it beside a small test split; what it said, or the line with which it failed."""
    make_data(tmp_path / "data")
    monkeypatch.chdir(tmp_path)

    def main(*arguments: str) -> str:
        monkeypatch.setattr(sys, "argv", ["compare", *arguments])
        try:
            run_command(compare.main)
        except SystemExit as end:
            return str(end.code)
        return capsys.readouterr().out

    return main


def write(name: str, captions: dict[int, str]) -> str:
    rows = [{"image_id": image_id, "caption": caption} for image_id, caption in captions.items()]
    Path(name).write_text(json.dumps(rows))
    return name


def test_two_result_files(run) -> None:
    said = run(
        write("a.json", SPOKEN), write("b.json", SPOKEN | {2: "a cat sleeps here"}), "--sheet", "out.png"
    )
    lines = said.splitlines()
    assert lines[0].startswith("A: a.json. B: b.json. 3 images")
    assert {line.split(" | ")[0] for line in lines[4:10]} >= {
        "| CIDEr",
        "| Bleu_4",
        "| CHAIRi",
        "| bad_endings",
    }
    assert "images that changed most: 2" in said
    with Image.open("out.png") as sheet:
        assert sheet.width == 1600


def test_foreign_references_have_no_sheet(run) -> None:
    references = {
        "images": [{"id": 8}, {"id": 9}],
        "annotations": [
            {"image_id": 8, "caption": "a boat at sea"},
            {"image_id": 9, "caption": "a red kite"},
        ],
    }
    Path("references.json").write_text(json.dumps(references))
    files = (
        write("a.json", {8: "a boat", 9: "a kite"}),
        write("b.json", {8: "a boat at sea", 9: "a kite"}),
    )
    assert "no sheet" in run(*files, "--references", "references.json")
    assert not Path("compare.png").exists()


def test_images_that_only_one_captions(run) -> None:
    fewer = {1: SPOKEN[1]}
    assert "2 images have references but no result: 2, 3" in run(
        write("a.json", SPOKEN), write("b.json", fewer)
    )


def test_a_part_of_the_test_split_on_request(run) -> None:
    part = {image_id: SPOKEN[image_id] for image_id in (1, 2)}
    files = write("a.json", part), write("b.json", part | {2: "a cat sleeps here"})
    assert "--subset scores the 2 images that have a result" in run(*files)
    said = run(*files, "--subset")
    assert "subset: 2 of 3 images" in said and "drawn on compare.png" in said


def test_what_by_image_wrote_is_compared_too(run) -> None:
    a, b = write("a.json", SPOKEN), write("b.json", SPOKEN | {2: "a cat sleeps here"})
    references = References(read_reference_file(captions_file()), None, "python")
    references.score(read_json(Path(b)), Path(b)).save(Path("scores.json"))
    said = run(a, "scores.json", "--references", "references.json")
    assert said.splitlines()[4:] == run(a, b, "--references", "references.json").splitlines()[4:]


def captions_file() -> Path:
    rows = [{"image_id": image_id, "caption": text} for image_id in SPOKEN for text in TEXTS[image_id]]
    content = {"images": [{"id": image_id} for image_id in SPOKEN], "annotations": rows}
    Path("references.json").write_text(json.dumps(content))
    return Path("references.json")


def test_files_need_no_project(run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    captions_file()
    files = write("a.json", SPOKEN), write("b.json", SPOKEN | {2: "a cat sleeps here"})
    said = run(*files, "--references", "references.json")
    assert "| CIDEr |" in said and "no sheet: the pictures are not on this machine" in said
    assert "name a file with --references" in run(*files)
    assert "none.json does not exist" in run(files[0], "none.json", "--references", "references.json")


def test_a_damaged_project_costs_the_sheet_alone(run) -> None:
    captions_file()
    Path("data/dataset/captions.json").write_text("[]")
    files = write("a.json", SPOKEN), write("b.json", SPOKEN | {2: "a cat sleeps here"})
    said = run(*files, "--references", "references.json")
    assert "| CIDEr |" in said and "no sheet: data/dataset/captions.json is not as it was" in said


def test_one_image_has_no_intervals(run) -> None:
    one = write("one.json", {1: SPOKEN[1]})
    said = run(one, write("other.json", {1: "a cat"}), "--subset")
    assert "CIDEr is left out: one image" in said and "intervals are left out" in said
    assert "| none | unknown |" in said and "| yes |" not in said


def test_a_split_needs_karpathys_file(run) -> None:
    assert "--split chooses from the file of --references" in run("main", "workspace", "--split", "test")


def test_scores_that_are_not_in_the_cache_are_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """DVC raises an error of its index for a folder whose list is on another machine."""

    def missing(path: str, rev: str) -> str:
        raise DataIndexDirError(f"failed to load directory {path}")

    monkeypatch.setattr(dvc.api, "read", missing)
    with pytest.raises(UserError, match=r"scst\.json of that revision .*failed to load directory"):
        read_at_revision(tmp_path / "scst.json", "main")
