"""Which differences are called real, and what is refused."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from fsgr_model.runtime.artifacts import save_json
from fsgr_model.runtime.errors import UserError
from fsgr_model.scoring.comparison import (
    References,
    as_table,
    check_comparable,
    differences,
    load_system,
    most_changed,
    read_at_revision,
)
from fsgr_model.scoring.image_scores import ImageScores
from fsgr_model.scoring.report import caption_report, report_without_references

NAMES = ["dog", "cat", "boat", "house", "tree", "car", "bird", "horse"]
REFERENCES = {
    image_id: [f"a {NAMES[image_id % 8]} on the beach", f"there is a {NAMES[image_id % 8]} near the sea"]
    for image_id in range(40)
}
RIGHT = {image_id: texts[0] for image_id, texts in REFERENCES.items()}
# Every other caption names the wrong thing.
HALF_RIGHT = {image_id: texts[0] if image_id % 2 else "a lamp" for image_id, texts in REFERENCES.items()}


NO_REFERENCES = References({}, None, "python")


def scores_of(results: dict[int, str], references: dict[int, list[str]] = REFERENCES) -> ImageScores:
    return caption_report(references, results, None, "off", tokenizer="python")[1]


def test_a_clear_loss_is_real_and_no_change_is_not() -> None:
    rows = {row.score: row for row in differences(scores_of(RIGHT), scores_of(HALF_RIGHT))}
    assert rows["CIDEr"].real and rows["CIDEr"].high < 0
    assert rows["CIDEr"].low <= rows["CIDEr"].b - rows["CIDEr"].a <= rows["CIDEr"].high
    assert rows["Bleu_4"].real
    same = differences(scores_of(RIGHT), scores_of(RIGHT))
    assert not any(row.real for row in same)
    assert {(row.low, row.high) for row in same} == {(0, 0)}


def test_the_order_turns_the_sign() -> None:
    one = differences(scores_of(RIGHT), scores_of(HALF_RIGHT))[0]
    other = differences(scores_of(HALF_RIGHT), scores_of(RIGHT))[0]
    assert (one.low, one.high) == pytest.approx((-other.high, -other.low))


def test_one_better_caption_of_forty_is_not_real() -> None:
    almost = RIGHT | {3: "a lamp"}
    assert not differences(scores_of(almost), scores_of(RIGHT))[0].real


def test_images_that_changed_most() -> None:
    a, b = scores_of(RIGHT | {5: "a lamp"}), scores_of(RIGHT | {7: "a lamp", 9: "a lamp"})
    assert [a.image_ids[row] for row in most_changed(a, b, 4)] == [5, 9, 7]
    assert most_changed(a, a, 4) == []
    bare = report_without_references(RIGHT)[1]
    assert most_changed(bare, bare, 4) == []
    assert [row.score for row in differences(bare, bare)] == ["bad_endings"]


def test_the_table_says_which_are_real() -> None:
    lines = as_table(differences(scores_of(RIGHT), scores_of(HALF_RIGHT))).splitlines()
    assert lines[2].startswith("| CIDEr | ") and lines[2].endswith(" yes |")


def test_other_images_references_and_signatures_are_refused() -> None:
    a = scores_of(RIGHT)
    fewer = {image_id: RIGHT[image_id] for image_id in range(39)}
    with pytest.raises(UserError, match=r"only one has \[39\]"):
        check_comparable(a, scores_of(fewer, {image_id: REFERENCES[image_id] for image_id in fewer}))
    with pytest.raises(UserError, match="against other references"):
        check_comparable(a, scores_of(RIGHT, REFERENCES | {0: ["something else"]}))
    other = ImageScores(a.image_ids, a.captions, a.columns, "CIDEr with the end token", a.references)
    with pytest.raises(UserError, match="in another way"):
        check_comparable(a, other)
    turned = {image_id: texts[::-1] for image_id, texts in REFERENCES.items()}
    check_comparable(a, scores_of(RIGHT, turned))


def test_scores_survive_being_written(tmp_path: Path) -> None:
    scores = scores_of(HALF_RIGHT)
    scores.save(tmp_path / "scores" / "xe.json")
    again = load_system("workspace", "xe", tmp_path, NO_REFERENCES)
    assert (again.image_ids, again.captions, again.references) == (
        scores.image_ids,
        scores.captions,
        scores.references,
    )
    assert again.columns.keys() == scores.columns.keys()
    assert all(np.array_equal(again.columns[name], scores.columns[name]) for name in scores.columns)


def test_a_file_that_holds_something_else(tmp_path: Path) -> None:
    save_json(tmp_path / "scores" / "xe.json", [])
    with pytest.raises(UserError, match="has no scores by image"):
        load_system("workspace", "xe", tmp_path, NO_REFERENCES)


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project whose data/scores is kept by DVC, with two commits."""
    monkeypatch.chdir(tmp_path)
    for name in ("GIT_AUTHOR_NAME", "GIT_COMMITTER_NAME", "GIT_AUTHOR_EMAIL", "GIT_COMMITTER_EMAIL"):
        monkeypatch.setenv(name, "somebody")
    monkeypatch.setenv("DVC_NO_ANALYTICS", "1")

    def run(*command: str) -> None:
        subprocess.run(command, check=True, capture_output=True)

    run("git", "init", "-q")
    run(sys.executable, "-m", "dvc", "init", "-q")
    for results in (RIGHT, HALF_RIGHT):
        scores_of(results).save(Path("data/scores/scst.json"))
        run(sys.executable, "-m", "dvc", "add", "-q", "data/scores")
        run("git", "add", ".")
        run("git", "commit", "-q", "-m", "scores")
    return tmp_path


@pytest.mark.slow
def test_revisions_come_from_dvc(repository: Path) -> None:
    before = load_system("HEAD~1", "scst", Path("data"), NO_REFERENCES)
    after = load_system("HEAD", "scst", Path("data"), NO_REFERENCES)
    assert differences(before, after)[0].real
    assert before.captions == list(RIGHT.values())
    with pytest.raises(UserError, match="nonsense is no file"):
        read_at_revision(Path("data/scores/scst.json"), "nonsense")
    with pytest.raises(UserError, match=r"data/scores/xe\.json of that revision cannot be read"):
        read_at_revision(Path("data/scores/xe.json"), "HEAD")
