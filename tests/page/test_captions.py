"""`/api/caption`: the captions of the model itself; what is too large or broken is refused in a line."""

import io
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.request import urlopen

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("starlette", reason="fsgr page needs the extra `page`")

import uvicorn
from starlette.testclient import TestClient
from starlette.types import ASGIApp

from fsgr_model.datasets.image_file import open_rgb
from fsgr_model.inference.image_captioner import ImageCaptioner
from fsgr_model.inference.model_folder import pipeline_model
from fsgr_model.page.app import Access, Served, make_app
from fsgr_model.page.captions import Limits
from fsgr_model.page.server import Place, address, listening
from tests.datasets.test_hostile_images import png_that_claims

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


def asked(client: TestClient, picture: Path, query: str) -> list[list[str]]:
    """The words of each caption."""
    answer = client.post(f"/api/caption?{query}", content=picture.read_bytes())
    assert answer.status_code == 200, answer.json()
    return [[word["text"] for word in caption["words"]] for caption in answer.json()["captions"]]


def test_what_is_asked_of_captions_is_what_they_are(client, captioner, picture) -> None:
    (plain,) = asked(client, picture, "beam_size=4")
    three = asked(client, picture, "beam_size=4&n_best=3")
    assert len(three) == 3 and three[0] == plain and len(set(map(tuple, three))) == 3
    (longer,) = asked(client, picture, f"min_words={len(plain) + 2}")
    assert len(longer) >= len(plain) + 2
    assert len(asked(client, picture, "max_words=2")[0]) <= 2
    others = [word for word in captioner.assembly.vocabulary.words[4:] if word not in plain]
    first, second = others[:2]
    (found,) = asked(client, picture, f"beam_size=4&begin={first}&must={second}&must={plain[-1]}")
    assert found[0] == first and {second, plain[-1]} <= set(found)
    (found,) = asked(client, picture, f"must_not={plain[0]}&must_not={plain[-1]}")
    assert not {plain[0], plain[-1]} & set(found)


def test_a_region_is_captioned_from_its_patches(client, picture) -> None:
    """The right half of columns and the lower half of rows, of a grid of four by four."""
    query = "maps=true&region=0.5,0.5,1,1&beam_size=4"
    answer = client.post(f"/api/caption?{query}", content=picture.read_bytes()).json()
    attention = np.array(answer["attention"][0])
    assert attention.shape[1:] == (4, 4)
    np.testing.assert_allclose(attention[:, 2:, 2:].sum(axis=(1, 2)), 1, atol=1e-4)
    assert attention.sum() == pytest.approx(len(attention), abs=1e-3)
    whole = client.post("/api/caption?beam_size=4", content=picture.read_bytes()).json()
    everything = client.post("/api/caption?beam_size=4&region=0,0,1,1", content=picture.read_bytes()).json()
    assert everything == whole
    assert answer["captions"][0]["log_probability"] != whole["captions"][0]["log_probability"]


@pytest.mark.parametrize(
    ("query", "told"),
    [
        ("must=zebra", "'zebra' is not among the model's"),
        ("begin=zebra", "'zebra' is not among the model's"),
        ("beam_size=2&n_best=3", "the 3 best captions cannot be given"),
        ("min_words=99", "raise max_length"),
        ("samples=2&must=red", "needs the beam search"),
    ],
)
def test_wishes_that_cannot_be_are_refused_with_their_reason(query, told, client, picture) -> None:
    answer = client.post(f"/api/caption?{query}", content=picture.read_bytes())
    assert answer.status_code == 422 and told in answer.json()["error"]


def test_a_wish_that_no_caption_fulfils_is_told(client, captioner, picture) -> None:
    words = captioner.assembly.vocabulary.words[4:]
    query = "&".join(["max_words=2", *(f"must_not={word}" for word in words[:32])])
    assert len(words) <= 32
    answer = client.post(f"/api/caption?min_words=1&{query}", content=picture.read_bytes())
    assert answer.status_code == 422 and "fulfils all wishes" in answer.json()["error"]


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
        ("n_best=0", "n_best"),
        ("must=a&must=b&must=c&must=d&must=e", "must"),
        ("must=" + 101 * "a", "must"),
        ("region=0.5,0,0.4,1", "region"),
        ("region=0,0,1", "region"),
        ("region=nan,0,1,1", "region"),
    ],
)
def test_options_are_checked(query, told, client, picture) -> None:
    answer = client.post(f"/api/caption?{query}", content=picture.read_bytes())
    assert answer.status_code == 400 and told in answer.json()["error"]


def test_pictures_of_the_project_go_by_id(client) -> None:
    """Here is none: a model alone is served."""
    assert client.post("/api/caption?image_id=151").status_code == 404


@contextmanager
def serving(app: ASGIApp, listener: socket.socket) -> Iterator[None]:
    """The page under uvicorn in a thread, as a client beyond this process meets it."""
    server = uvicorn.Server(uvicorn.Config(app, log_level="error", timeout_graceful_shutdown=1))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        yield
    finally:
        server.should_exit = True
        thread.join(20)
        assert not thread.is_alive()


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
        (png_that_claims(20_000, 20_000), 415, "more than 5000 pixels; make it smaller"),
        (bytes(60_001), 413, "may have 60000 bytes"),
    ],
)
def test_what_cannot_be_captioned_is_refused(content, status, told, client) -> None:
    answer = client.post("/api/caption", content=content)
    assert answer.status_code == status and told in answer.json()["error"]


def test_a_form_is_refused_with_the_command_that_is_right(client) -> None:
    """As `curl -F file=@photo.jpg` sends it."""
    answer = client.post("/api/caption", files={"file": ("photo.png", png(20, 20), "image/png")})
    assert answer.status_code == 415 and "curl --data-binary @photo.jpg" in answer.json()["error"]


def test_a_picture_that_does_not_arrive_is_given_up(captioner) -> None:
    """The client sends half of it and waits: it is told, and others are answered meanwhile."""
    place = Place("127.0.0.1", 0)
    served = Served("small", captioner, None, LIMITS)
    with (
        listening(place) as listener,
        serving(make_app(served, Access()), listener),
        socket.create_connection(listener.getsockname(), timeout=3) as slow,
    ):
        head = "POST /api/caption HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 1000\r\n\r\n"
        slow.sendall(head.encode() + bytes(500))
        with urlopen(address(place, listener, Access()) + "api/about", timeout=10) as other:
            assert other.status == 200
        answer = slow.makefile().read()  # up to the end of the connection
    assert answer.startswith("HTTP/1.1 408 ") and "did not arrive within 0.3 s; send it again" in answer


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
