"""The tabs Compare and Train: the numbers of `fsgr compare`, the curves of git's revisions, live runs."""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("starlette", reason="fsgr page needs the extra `page`")

from starlette.testclient import TestClient

from fsgr_model.config.text_params import Segmenter
from fsgr_model.page.app import Access, Served, make_app
from fsgr_model.page.comparing import marked
from fsgr_model.page.project import Project
from fsgr_model.page.revisions import revisions
from fsgr_model.runtime.artifacts import load_json
from fsgr_model.runtime.live_report import LiveReport
from fsgr_model.scoring.comparison import differences
from fsgr_model.scoring.image_scores import ImageScores

HERE = "http://127.0.0.1"


@pytest.fixture
def client(scored: Path) -> Iterator[TestClient]:
    with TestClient(make_app(Served("small", None, Project(scored)), Access()), base_url=HERE) as client:
        yield client


def scores(scored: Path, phase: str) -> ImageScores:
    path = scored / "data" / "scores" / f"{phase}.json"
    return ImageScores.of_json(load_json(path), str(path))


def test_the_table_is_that_of_the_command(client: TestClient, scored: Path) -> None:
    found = client.get("/api/compare?a=workspace:xe&b=workspace:scst").json()
    expected = differences(scores(scored, "xe"), scores(scored, "scst"))
    assert len(expected) > 4 and [row["score"] for row in found["table"]] == [each.score for each in expected]
    for row, each in zip(found["table"], expected, strict=True):
        assert (row["a"], row["b"], row["low"], row["high"]) == (each.a, each.b, each.low, each.high)
        assert row["real"] == each.real
    changes = [row["b"]["CIDEr"] - row["a"]["CIDEr"] for row in found["changed"]]
    assert changes and all(changes)
    same = client.get("/api/compare?a=workspace:xe&b=workspace:xe").json()
    assert same["changed"] == [] and not any(row["real"] for row in same["table"])


@pytest.mark.parametrize(
    "name", ["data/scores/xe.json", "/etc/passwd:xe", "--help:xe", "workspace:best", "", "main"]
)
def test_only_what_git_lists_is_compared(name: str, client: TestClient) -> None:
    answer = client.get("/api/compare", params={"a": name, "b": "workspace:xe"})
    assert answer.status_code == 404
    assert client.get("/api/curves", params={"revision": name}).status_code == 404


def test_words_that_differ_are_marked() -> None:
    a, b = marked("a red dog in the snow", "a small red cat in snow")
    assert [piece.strip() for piece, differs in a if differs] == ["dog", "the"]
    assert [piece.strip() for piece, differs in b if differs] == ["small", "cat"]
    assert "".join(piece for piece, _ in b) == "a small red cat in snow"


@pytest.mark.parametrize(
    ("segmenter", "a", "b", "marks_a", "marks_b"),
    [
        (
            "characters",
            "一只小狗，在 草地上。",
            "一只白猫，在 草地上",
            ["小", "狗，"],
            ["白", "猫，"],
        ),
        ("jieba", "一只棕色的小狗在草地上", "一只小狗在Hot Dog上", ["棕色", "的", "草地"], ["Hot ", "Dog"]),
        ("words", "สุนัขกำลังวิ่ง 2 ตัว", "แมวกำลังวิ่ง 2 ตัว", ["สุนัข"], ["แมว"]),
    ],
)
def test_words_of_captions_without_spaces_are_marked(
    segmenter: Segmenter, a: str, b: str, marks_a: list[str], marks_b: list[str]
) -> None:
    if segmenter != "characters":
        pytest.importorskip({"jieba": "jieba", "words": "icu4py"}[segmenter])
    of_a, of_b = marked(a, b, segmenter)
    assert ["".join(piece for piece, _ in each) for each in (of_a, of_b)] == [a, b]
    assert [piece for piece, differs in of_a if differs] == marks_a
    assert [piece for piece, differs in of_b if differs] == marks_b


def test_revisions_are_branches_tags_and_experiments(tmp_path: Path) -> None:
    assert revisions(tmp_path) == ["workspace"], "without git"

    def git(*words: str) -> None:
        identity = ("-c", "user.name=a", "-c", "user.email=a@b.c")
        subprocess.run(["git", *identity, *words], cwd=tmp_path, check=True, capture_output=True)

    git("init", "-q", "-b", "main")
    git("commit", "-q", "--allow-empty", "-m", "first")
    git("branch", "feature/beams")
    git("tag", "v1")
    git("update-ref", "refs/exps/ab/cdef0123/slow-run", "HEAD")
    git("update-ref", "refs/exps/exec/EXEC_HEAD", "HEAD")
    git("update-ref", "refs/exps/stash", "HEAD")
    assert revisions(tmp_path)[0] == "workspace"
    assert set(revisions(tmp_path)) == {"workspace", "main", "feature/beams", "v1", "slow-run"}


def test_curves_come_by_columns_with_gaps(client: TestClient, scored: Path) -> None:
    (scored / "plots").mkdir(exist_ok=True)
    (scored / "plots" / "xe.tsv").write_text("epoch\tval_CIDEr\tloss\n0\t0.5\t\n1\t0.75\t2.5\n")
    found = client.get("/api/curves?revision=workspace").json()
    assert found == {"xe": {"epoch": [0, 1], "val_CIDEr": [0.5, 0.75], "loss": [None, 2.5]}}
    (scored / "plots" / "xe.tsv").write_text("epoch\tloss\n0\tdog\n")
    answer = client.get("/api/curves?revision=workspace")
    assert answer.status_code == 409 and "no table of numbers" in answer.json()["error"]


def test_runs_under_way_are_told(client: TestClient, scored: Path) -> None:
    assert client.get("/api/live").json() == []
    folder = scored / ".resume" / "train_xe-0123"
    folder.mkdir(parents=True)
    LiveReport(folder, "XE", epochs=4).write(1.5, [{"epoch": 0, "loss": 1.0}], [(141, "a red wall")])
    (run,) = client.get("/api/live").json()
    assert run["run"] == "train_xe-0123" and run["done"] == 1.5 and run["samples"][0]["image_id"] == 141
    assert json.dumps(run) and run["written_at"] > 1e9
