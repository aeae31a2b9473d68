"""SPICE is asked for, and what it needs is looked for first; a made-up Java stands in for its program."""

import json
import sys
from pathlib import Path

import pytest
from pycocoevalcap.spice import spice as official

from fsgr_model.runtime.errors import UserError
from fsgr_model.scoring import spice as ours
from fsgr_model.scoring.coco_metrics import score_captions
from fsgr_model.scoring.spice import check_spice, java_version

REFERENCES = {2: ["A dog runs on the beach."], 1: ["Two cats sleep", "A pair of cats"]}
RESULTS = {1: "two dogs", 2: "a dog runs"}
# In place of the parser it scores the number of words of a caption, in hundredths.
PROGRAM = """#!{python}
import json, sys
if sys.argv[1:] == ["-version"]:
    print('openjdk version "{version}" 2019-10-15', file=sys.stderr)
    sys.exit(0)
if {fails}:
    print("OutOfMemoryError: Java heap space", file=sys.stderr)
    sys.exit(1)
rows = json.load(open(sys.argv[sys.argv.index("spice-1.0.jar") + 1]))
scores = [{{"image_id": row["image_id"], "scores": {{"All": {{"f": {score}}}}}}} for row in reversed(rows)]
json.dump(scores, open(sys.argv[sys.argv.index("-out") + 1], "w"))
"""
WORDS = "len(row['test'].split()) / 100"


def write_java(folder: Path, version: str, fails: bool = False, score: str = WORDS) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    java = folder / "java"
    java.write_text(PROGRAM.format(python=sys.executable, version=version, fails=fails, score=score))
    java.chmod(0o755)
    return java


@pytest.fixture
def libraries(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of CoreNLP's files, both there; no Java in JAVA_HOME or on PATH."""
    folder = tmp_path / "lib"
    folder.mkdir()
    for jar in ours.JARS:
        (folder / jar).touch()
    monkeypatch.setattr(ours, "LIBRARIES", folder)
    monkeypatch.setattr(official, "get_stanford_models", lambda: None)
    monkeypatch.setattr(ours, "find_java", lambda: None)
    monkeypatch.delenv("JAVA_HOME", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))
    return folder


@pytest.mark.parametrize(
    ("said", "version"),
    [("1.8.0_292", 8), ("11.0.2", 11), ("17", 17), ("21.0.1", 21), ("9-ea", 9), ("none", None)],
)
def test_version_of_a_java(said: str, version: int | None, tmp_path: Path) -> None:
    assert java_version(write_java(tmp_path, said)) == version


@pytest.mark.parametrize("version", ["1.8.0_292", "11.0.2", "15.0.2"])
def test_scores_are_those_of_the_program(
    version: str, libraries: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(write_java(tmp_path / "bin", version).parent))
    report = score_captions(REFERENCES, RESULTS, "off", with_spice=True)
    assert report.metrics["SPICE"] == pytest.approx(0.025)
    assert report.columns["SPICE"].tolist() == [0.02, 0.03], "in ascending order of the ids"
    assert [row["metric"] for row in report.omitted] == ["METEOR"]


def test_it_is_off_unless_asked_for(libraries: Path) -> None:
    reasons = {row["metric"]: row["reason"] for row in score_captions(REFERENCES, RESULTS, "off").omitted}
    assert "evaluate.java" in reasons["SPICE"] and "384 MB" in reasons["SPICE"]


def test_an_old_java_in_java_home_is_taken_before_a_new_one_on_path(
    libraries: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(write_java(tmp_path / "new", "17.0.15").parent))
    old = write_java(tmp_path / "old" / "bin", "1.8.0_292")
    with pytest.raises(UserError, match=r"8 to 15 \(found .*new/java of version 17\)"):
        check_spice()
    monkeypatch.setenv("JAVA_HOME", str(tmp_path / "old"))
    assert check_spice() == old


def test_everything_that_is_missing_is_told_at_once_and_before_the_other_scores(libraries: Path) -> None:
    (libraries / ours.JARS[1]).unlink()
    with pytest.raises(UserError) as caught:
        score_captions(REFERENCES, RESULTS, "off", with_spice=True)
    told = str(caught.value)
    assert "\n" not in told
    for part in ("found none", ours.JARS[1], str(libraries), "384 MB", "JAVA_HOME", "evaluate.java"):
        assert part in told
    assert ours.JARS[0] not in told


def test_a_program_that_fails_is_an_error(
    libraries: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(write_java(tmp_path / "bin", "11.0.2", fails=True).parent))
    with pytest.raises(UserError, match=r"SPICE failed with .*java: .*8 GB of memory"):
        score_captions(REFERENCES, RESULTS, "off", with_spice=True)


def test_an_image_without_a_score_is_an_error(
    libraries: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    score = "None if row['image_id'] == 2 else 0.5"
    monkeypatch.setenv("PATH", str(write_java(tmp_path / "bin", "11.0.2", score=score).parent))
    with pytest.raises(UserError, match="no score for the images 2"):
        score_captions(REFERENCES, RESULTS, "off", with_spice=True)


def test_the_real_place_is_that_of_pycocoevalcap() -> None:
    assert (ours.LIBRARIES.parent / official.SPICE_JAR).is_file()
    assert json.dumps(ours.JARS) == '["stanford-corenlp-3.6.0.jar", "stanford-corenlp-3.6.0-models.jar"]'
