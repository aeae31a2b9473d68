"""`python -m pipeline.compare` with result files, as a user runs it."""

import json
import sys
from pathlib import Path

import pytest
from PIL import Image

from fsgr_model.errors import run_command
from pipeline import compare
from tests.scoring.test_evaluation import SPOKEN, make_data


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
