"""The official tokenizer in place of ours: equal scores, and clear words where it cannot be run."""

import os
from pathlib import Path

import pytest

from fsgr_model.runtime.artifacts import load_json
from fsgr_model.runtime.errors import UserError
from fsgr_model.scoring import caption_tokens
from fsgr_model.scoring.caption_tokens import tokenized
from fsgr_model.scoring.coco_metrics import score_captions

REAL = "FSGR_COCO_DATA"
ODD = (Path(__file__).parents[1] / "text" / "odd_sentences.txt").read_text(encoding="utf-8").splitlines()


def check_scores_agree(references: dict[int, list[str]], results: dict[int, str]) -> None:
    ours, official = (score_captions(references, results, "off", name).metrics for name in ("python", "java"))
    assert ours["CIDEr"] > 0.1
    assert ours == pytest.approx(official, abs=1e-3)


@pytest.mark.java
def test_scores_agree_on_odd_sentences() -> None:
    """Each is a reference of its image, with its neighbours, and the next image's result."""
    numbers = range(1, len(ODD) - 1)
    references = {number: ODD[number - 1 : number + 2] for number in numbers}
    check_scores_agree(references, {number: f"{ODD[number]} {ODD[number - 1]}" for number in numbers})


@pytest.mark.java
@pytest.mark.skipif(REAL not in os.environ, reason=f"{REAL} names no folder of COCO captions")
def test_scores_agree_on_human_captions() -> None:
    """The first caption of 500 images of val2017 against their others."""
    content = load_json(Path(os.environ[REAL]) / "captions_val2017.json")
    captions: dict[int, list[str]] = {}
    for annotation in content["annotations"]:
        captions.setdefault(annotation["image_id"], []).append(annotation["caption"])
    first = dict(list(captions.items())[:500])
    references = {image_id: of_image[1:] for image_id, of_image in first.items()}
    check_scores_agree(references, {image_id: of_image[0] for image_id, of_image in first.items()})


@pytest.mark.java
def test_captions_stay_with_their_images() -> None:
    """Line breaks of any kind, empty captions and the order of the ids change nothing."""
    captions = {9: ["A dog.\r\nTwo\u2028cats\x0bsit.", ""], 2: ["...", "It's a bed!"], 5: [""]}
    found = tokenized(captions, "java")
    assert found == {2: ["", "it 's a bed"], 5: [""], 9: ["a dog two cats sit", ""]}
    assert list(found) == [2, 5, 9]
    assert tokenized(captions, "python") == found


def test_without_java_it_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(caption_tokens, "find_java", lambda: None)
    with pytest.raises(UserError, match=r"needs a Java runtime: .* evaluate\.java"):
        tokenized({1: ["a dog"]}, "java")


@pytest.mark.parametrize(
    ("script", "message"),
    [
        (
            "exit 3",
            r"failed with .*java: exit code 3 without a message; take tokenizer out of",
        ),
        ("echo a dog", "did not give all captions back"),
        ("cat | head -n 1", "did not give all captions back"),
    ],
)
def test_a_java_that_fails(
    script: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A score of empty captions would look like a number."""
    java = tmp_path / "java"
    java.write_text(f"#!/bin/sh\n{script}\n")
    java.chmod(0o755)
    monkeypatch.setattr(caption_tokens, "find_java", lambda: java)
    with pytest.raises(UserError, match=message):
        tokenized({1: ["a dog"]}, "java")


def test_a_java_that_cannot_be_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    java = tmp_path / "java"
    java.touch(mode=0o644)
    monkeypatch.setattr(caption_tokens, "find_java", lambda: java)
    with pytest.raises(UserError, match=r"failed with .*java: Permission denied"):
        tokenized({1: ["a dog"]}, "java")
