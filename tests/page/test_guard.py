"""What is refused before a request is looked at: foreign hosts and origins, no token, too much at once."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

pytest.importorskip("starlette", reason="fsgr page needs the extra `page`")

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from fsgr_model.page.guard import LOOPBACK, Guard

HERE = "http://127.0.0.1:8765"
TOKEN = "pQ3-token"


def guarded(**options) -> TestClient:
    def hello(request: Request) -> PlainTextResponse:
        return PlainTextResponse("hello")

    app = Starlette(routes=[Route("/", hello, methods=["GET", "POST"]), Route("/deep", hello)])
    chosen = {"hosts": LOOPBACK, "token": None, "most_at_once": 4} | options
    return TestClient(Guard(app, **chosen), base_url=HERE, follow_redirects=False)


@pytest.mark.parametrize("host", ["127.0.0.1:8765", "localhost:1", "LOCALHOST", "[::1]:8765"])
def test_this_machine_may_be_named(host: str) -> None:
    assert guarded().get("/", headers={"host": host}).text == "hello"


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example:8765", "", "[::1", "0.0.0.0"])
def test_another_name_is_refused(host: str) -> None:
    """A name of an attacker that was pointed at 127.0.0.1 stands in `Host`."""
    answer = guarded().get("/", headers={"host": host})
    assert answer.status_code == 403 and "under the name" in answer.json()["error"]


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize(
    "origin",
    [
        "http://evil.example",
        "null",
        "http://127.0.0.1:9",
        "http://127.0.0.1:87650",
        "http://[::1",
        "http://[x]",
    ],
)
def test_another_page_may_not_ask(origin: str, method: str) -> None:
    answer = guarded().request(method, "/", headers={"origin": origin})
    assert answer.status_code == 403 and origin in answer.json()["error"]
    assert guarded().request(method, "/", headers={"origin": HERE}).text == "hello"


def test_every_answer_keeps_other_pages_and_hosts_out() -> None:
    for headers in ({}, {"host": "evil.example"}):
        answer = guarded().get("/", headers=headers)
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy and "http" not in policy and "unsafe" not in policy
        assert answer.headers["cross-origin-resource-policy"] == "same-origin"
        assert answer.headers["x-content-type-options"] == "nosniff"


def test_a_token_opens_the_page_and_stays_in_a_cookie() -> None:
    client = guarded(hosts=None, token=TOKEN)
    for address in ("/", "/?token=", "/?token=wrong", "/?token=pQ3-token%C3%A9", f"/deep?token={TOKEN}"):
        assert client.get(address).status_code == 401
    welcome = client.get(f"/?token={TOKEN}")
    assert welcome.status_code == 303 and welcome.headers["location"] == "/"
    assert (
        "HttpOnly" in welcome.headers["set-cookie"]
        and "samesite=strict" in welcome.headers["set-cookie"].lower()
    )
    assert client.get("/deep").text == "hello"


def test_a_program_sends_the_token_in_a_header() -> None:
    client = guarded(hosts=None, token=TOKEN)
    assert client.get("/", headers={"authorization": f"Bearer {TOKEN}"}).text == "hello"
    for header in ("Bearer wrong", TOKEN, f"Basic {TOKEN}"):
        assert client.get("/", headers={"authorization": header}).status_code == 401
    assert client.get("/", headers={"cookie": f"fsgr_token={TOKEN}x"}).status_code == 401


def test_any_host_without_a_token_is_a_mistake_of_the_program() -> None:
    with pytest.raises(ValueError, match="only where a token is asked for"):
        guarded(hosts=None)


@contextmanager
def occupied(most: int) -> Iterator[TestClient]:
    """A page all of whose places are taken by requests that wait."""
    inside, leave = threading.Semaphore(0), threading.Event()

    def slow(request: Request) -> PlainTextResponse:
        inside.release()
        assert leave.wait(10)
        return PlainTextResponse("late")

    app = Starlette(routes=[Route("/", slow)])
    with TestClient(Guard(app, hosts=LOOPBACK, token=None, most_at_once=most), base_url=HERE) as client:
        threads = [threading.Thread(target=client.get, args=("/",)) for _ in range(most)]
        for thread in threads:
            thread.start()
        for _ in threads:
            assert inside.acquire(timeout=10)
        try:
            yield client
        finally:
            leave.set()
            for thread in threads:
                thread.join()
        assert client.get("/").text == "late", "the places are free again"


def test_one_request_too_many_is_told_when_to_come_again() -> None:
    with occupied(2) as client:
        answer = client.get("/")
        assert answer.status_code == 503 and answer.headers["retry-after"] == "1"
        assert answer.json()["error"] == "2 requests are in progress; send it again in 1 s"
