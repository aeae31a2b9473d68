"""`python -m fsgr_model score` as a user runs it."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from fsgr_model.__main__ import main
from tests.worlds.commands import run_here

REFERENCES = {
    "images": [{"id": 7}, {"id": 9}],
    "annotations": [
        {"id": 1, "image_id": 7, "caption": "A dog runs."},
        {"id": 2, "image_id": 7, "caption": "The dog is running"},
        {"id": 3, "image_id": 9, "caption": "A cat sleeps on a bed"},
    ],
}
RESULTS = [{"image_id": 9, "caption": "a dog sleeps on a"}, {"image_id": 7, "caption": "a dog runs"}]
INSTANCES = {
    "images": [{"id": 7}, {"id": 9}],
    "categories": [{"id": 1, "name": "dog"}, {"id": 2, "name": "cat"}, {"id": 3, "name": "bed"}],
    "annotations": [{"id": 5, "image_id": 7, "category_id": 1}],
}


def options(folder: Path, results: Any) -> list[str]:
    """The command's, for files that are written here."""
    for name, content in (("references", REFERENCES), ("results", results), ("instances", INSTANCES)):
        (folder / f"{name}.json").write_text(json.dumps(content))
    files = ["--references", str(folder / "references.json"), "--results", str(folder / "results.json")]
    return [*files, "--meteor", "off"]


def score(folder: Path, results: Any = RESULTS, *more: str) -> subprocess.CompletedProcess[str]:
    return run_here(main, "score", *options(folder, results), *more)


def score_alone(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "fsgr_model", "score", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_prints_the_report_as_json(tmp_path: Path) -> None:
    done = score_alone(*options(tmp_path, RESULTS))
    assert (done.returncode, done.stderr) == (0, "")
    report = json.loads(done.stdout)
    assert report["images"] == 2
    assert report["bad_endings"] == 0.5
    assert 0 < report["Bleu_1"] <= 1 and report["CIDEr"] > 0
    assert {row["metric"] for row in report["omitted"]} == {"METEOR", "SPICE", "CHAIRi", "CHAIRs"}
    facts = {row["what"] for row in report["provenance"]}
    assert {"CIDEr signature", "python", "pycocoevalcap", "numpy"} <= facts


def test_instances_add_chair(tmp_path: Path) -> None:
    report = json.loads(score(tmp_path, RESULTS, "--instances", str(tmp_path / "instances.json")).stdout)
    assert (report["CHAIRi"], report["CHAIRs"]) == (0.5, 0.5)
    assert {row["metric"] for row in report["omitted"]} == {"METEOR", "SPICE"}


@pytest.mark.parametrize(
    ("results", "message"),
    [
        (RESULTS[:1], "1 images have references but no result: 7"),
        ([*RESULTS, {"image_id": 5, "caption": "x"}], "1 images have a result but no references: 5"),
        ([*RESULTS, RESULTS[0]], "images with more: 9"),
        ([{"image_id": 9}], "results.json: .*caption: missing"),
        ({"9": "a"}, "results.json"),
    ],
)
def test_wrong_results_are_one_line_and_a_failure(tmp_path: Path, results: Any, message: str) -> None:
    done = score(tmp_path, results)
    assert done.returncode == 1
    assert done.stdout == ""
    assert len(done.stderr.strip().split("\n")) == 1
    assert re.search(message, done.stderr)


def test_a_part_is_scored_on_request(tmp_path: Path) -> None:
    done = score(tmp_path, RESULTS[:1])
    assert done.returncode == 1 and "--subset scores the 1 images" in done.stderr
    report = json.loads(score(tmp_path, RESULTS[:1], "--subset").stdout)
    facts = {row["what"]: row["value"] for row in report["provenance"]}
    assert report["images"] == 1 and facts["subset"] == "1 of 2 images, those with a result"


def test_a_missing_file(tmp_path: Path) -> None:
    done = score_alone("--references", "none.json", "--results", "none.json")
    assert done.returncode == 1
    assert "none.json does not exist" in done.stderr
