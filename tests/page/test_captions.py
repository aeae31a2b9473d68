"""`/api/caption`: the captions of the model itself; what is too large or broken is refused in a line."""

import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("starlette", reason="fsgr page needs the extra `page`")

from starlette.testclient import TestClient

from fsgr_model.datasets.image_file import open_rgb
from fsgr_model.inference.image_captioner import ImageCaptioner
from fsgr_model.inference.model_folder import pipeline_model
from fsgr_model.page.app import Access, Served, make_app
from fsgr_model.page.captions import Limits

HERE = "http://127.0.0.1"
LIMITS = Limits(bytes=60_000, pixels=5_000, seconds=0.3)


@pytest.fixture(scope="module")
def captioner(project: Path) -> ImageCaptioner:
    return ImageCaptioner(pipeline_model("xe", project))


@pytest.fixture(scope="module")
def client(captioner: ImageCaptioner) -> Iterator[TestClient]:
    with TestClient(make_app(Served("small", captioner, None, LIMITS), Access()), base_url=HERE) as client:
        yield client


@pytest.fixture(scope="module")
def picture(project: Path) -> Path:
    return project / "data" / "dataset" / "images" / "151.png"


@pytest.mark.parametrize("options", [{}, {"beam_size": 1}, {"samples": 3, "seed": 4}])
def test_captions_are_those_of_the_model(options, client, captioner, picture) -> None:
    chosen = captioner.with_options(**options)
    expected = chosen.describe([chosen.prepare(open_rgb(picture))])[0].captions
    answer = client.post("/api/caption", content=picture.read_bytes(), params=options).json()
    assert [caption["text"] for caption in answer["captions"]] == [caption.text for caption in expected]
    for found, caption in zip(answer["captions"], expected, strict=True):
        assert found["log_probability"] == pytest.approx(caption.log_probability, abs=1e-4)
        assert [word["text"] for word in found["words"]] == caption.words
        assert [word["probability"] for word in found["words"]] == pytest.approx(caption.word_probabilities)
    assert (answer["width"], answer["height"]) == (40, 24) and "labels" not in answer


def test_maps_come_where_they_are_asked_for(client, captioner, picture) -> None:
    image = captioner.prepare(open_rgb(picture))
    described = captioner.describe([image])[0]
    answer = client.post("/api/caption?maps=true", content=picture.read_bytes()).json()
    assert answer["labels"] == captioner.label_map(image).tolist()
    assert answer["concepts"] == described.concept_SS.tolist()
    expected = captioner.attention(image, described.captions[0])
    np.testing.assert_allclose(answer["attention"][0], expected, atol=1e-5)
    shown = {each for name in ("labels", "concepts") for row in answer[name] for each in row}
    assert answer["names"] == {str(each): captioner.codebook.names[each] for each in shown}


@pytest.mark.parametrize(
    ("query", "told"),
    [
        ("beam_size=0", "beam_size"),
        ("beam_size=999999", "beam_size"),
        ("samples=1e3", "samples"),
        ("beam_size=2&samples=2", "exclude each other"),
        ("seed=-1", "seed"),
        ("path=/etc/passwd", "path"),
    ],
)
def test_options_are_checked(query, told, client, picture) -> None:
    answer = client.post(f"/api/caption?{query}", content=picture.read_bytes())
    assert answer.status_code == 400 and told in answer.json()["error"]


def test_pictures_of_the_project_go_by_id(client) -> None:
    """Here is none: a model alone is served."""
    assert client.post("/api/caption?image_id=151").status_code == 404


def png(width: int, height: int) -> bytes:
    written = io.BytesIO()
    Image.new("RGB", (width, height), "red").save(written, "PNG")
    return written.getvalue()


@pytest.mark.parametrize(
    ("content", "status", "told"),
    [
        (b"", 415, "an empty file"),
        (b"hello", 415, "not an image"),
        (png(60, 60)[:-30], 415, "cannot be decoded"),
        (png(101, 50), 415, "101 x 50 pixels, more than 5000"),
        (bytes(60_001), 413, "may have 60000 bytes"),
    ],
)
def test_what_cannot_be_captioned_is_refused(content, status, told, client) -> None:
    answer = client.post("/api/caption", content=content)
    assert answer.status_code == status and told in answer.json()["error"]


def test_bytes_are_counted_as_they_come(client) -> None:
    """No length was announced."""
    answer = client.post("/api/caption", content=iter([bytes(40_000)] * 3))
    assert answer.status_code == 413


def test_the_largest_picture_allowed_and_a_thin_one_are_captioned(client) -> None:
    for size in ((100, 50), (1, 4000)):
        assert client.post("/api/caption", content=png(*size)).status_code == 200


@pytest.mark.parametrize(("method", "path", "takes"), [("GET", "/api/caption", "POST"), ("POST", "/", "GET")])
def test_another_method_is_refused_in_the_form_of_all_refusals(method, path, takes, client) -> None:
    answer = client.request(method, path)
    assert answer.status_code == 405
    assert takes in answer.json()["error"] and takes in answer.headers["allow"]
