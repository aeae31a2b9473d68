"""What the page shows of a finished project, by HTTP; pictures by id and never by path."""

import io
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

pytest.importorskip("starlette", reason="fsgr page needs the extra `page`")

from starlette.testclient import TestClient

from fsgr_model.page.app import Access, Served, make_app
from fsgr_model.page.project import Project
from fsgr_model.runtime.artifacts import load_json

HERE = "http://127.0.0.1"
IDS = list(range(141, 153))


@pytest.fixture
def client(scored: Path) -> Iterator[TestClient]:
    app = make_app(Served("small", None, Project(scored)), Access())
    with TestClient(app, base_url=HERE) as client:
        yield client


def test_the_test_split_comes_as_it_was_scored(client: TestClient, scored: Path) -> None:
    assert client.get("/api/about").json() == {
        "title": "small", "decode": None, "most_bytes": 20_000_000, "phases": ["scst", "xe"], "project": True,
    }  # fmt: skip
    for phase in ("xe", "scst"):
        found = client.get(f"/api/look/{phase}").json()
        rows = load_json(scored / "data" / "scores" / f"{phase}.json")["images"]
        assert found["image_ids"] == [row["image_id"] for row in rows] == IDS
        assert found["captions"] == [row["caption"] for row in rows]
        assert found["scores"]["CIDEr"] == pytest.approx([row["CIDEr"] for row in rows], abs=1e-4)
        assert not any(name.startswith("bleu_") for name in found["scores"])
    assert client.get("/api/look/../../params").status_code == client.get("/api/look/best").status_code == 404


def test_one_image_has_what_people_wrote_and_both_captions(client: TestClient) -> None:
    found = client.get("/api/image/141").json()
    assert len(found["references"]) == 2 and (found["width"], found["height"]) == (40, 24)
    assert found["phases"]["xe"]["caption"] == "a red picture"
    for address in ("/api/image/101", "/api/image/-1", "/api/image/9999999999999999999999", "/api/image/x"):
        assert client.get(address).status_code == 404, "a training image, or none"


def test_pictures_go_by_id_and_never_by_path(client: TestClient, scored: Path) -> None:
    answer = client.get("/api/picture/141/224")
    with Image.open(io.BytesIO(answer.content)) as picture:
        assert picture.format == "JPEG" and picture.size == (40, 24)
    assert "max-age" in answer.headers["cache-control"]
    for name in (
        "101/224",
        "141/17",
        "141.png/224",
        "../params/224",
        "..%2f..%2fparams.yaml/224",
        "%2fetc%2fpasswd/224",
    ):
        assert client.get(f"/api/picture/{name}").status_code == 404
    for name in ("%2e%2e/app.py", "..%2fapp.py", "%2e%2e%2f%2e%2e%2fapi.py", "/etc/passwd"):
        assert client.get(f"/static/{name}").status_code == 404


def test_a_picture_that_is_gone_is_told(scored: Path, client: TestClient) -> None:
    path = scored / "data" / "dataset" / "images" / "142.png"
    content = path.read_bytes()
    path.unlink()
    try:
        answer = client.get("/api/picture/142/1024")
        assert answer.status_code == 415 and "142.png: missing" in answer.json()["error"]
    finally:
        path.write_bytes(content)
    assert client.get("/api/picture/142/1024").status_code == 200


def test_objects_that_are_not_there_are_named(scored: Path) -> None:
    """The categories of the small world are its colours."""
    columns = Project(scored).columns["scst"]()
    assert columns["scores"]["wrong_objects"] == [len(names) for names in columns["invented"]]
    named = {name for names in columns["invented"] for name in names}
    assert named and named <= {"blue", "white"}


def test_scores_that_a_run_replaces_are_read_again(scored: Path) -> None:
    project, path = Project(scored), scored / "data" / "scores" / "xe.json"
    assert set(project.columns["xe"]()["captions"]) == {"a red picture"}
    before = path.read_text()
    content = json.loads(before)
    content["images"][0]["caption"] = "another"
    try:
        path.write_text(json.dumps(content))
        assert project.columns["xe"]()["captions"][0] == "another"
    finally:
        path.write_text(before)


def test_a_project_without_scores_says_what_to_run(tmp_path: Path) -> None:
    client = TestClient(make_app(Served("empty", None, Project(tmp_path)), Access()), base_url=HERE)
    assert client.get("/api/about").json()["phases"] == []
    answer = client.get("/api/look/xe")
    assert answer.status_code == 409 and "does not exist" in answer.json()["error"]
    assert client.post("/api/caption", content=b"x").status_code == 404, "there is no network"


def test_the_page_and_its_code_come_from_the_package(client: TestClient) -> None:
    page = client.get("/").text
    assert "http:" not in page and "https:" not in page
    for name in ("main.js", "page.css", "icon.svg"):
        assert client.get(f"/static/{name}").status_code == 200 and f"/static/{name}" in page
