"""Where the page listens: on this machine without more ado, elsewhere with a token that nobody can guess."""

import os
import signal

import pytest

pytest.importorskip("starlette", reason="fsgr page needs the extra `page`")

from starlette.types import Receive, Scope, Send

from fsgr_model.page.guard import LOOPBACK
from fsgr_model.page.server import Place, address, listening, serve
from fsgr_model.runtime.errors import UserError
from fsgr_model.runtime.stopping import stop_request


def test_this_machine_needs_no_token_and_checks_the_name() -> None:
    for host in ("127.0.0.1", "localhost", "::1"):
        access = Place(host, 8765).access()
        assert access.token is None and access.hosts == LOOPBACK


def test_another_bind_needs_a_token_of_its_own() -> None:
    for host in ("0.0.0.0", "::", "192.0.2.7", "127.0.0.2", ""):
        first, second = (Place(host, 8765).access().token for _ in range(2))
        assert first and second and first != second and len(first) >= 32


def test_the_address_is_that_of_the_socket() -> None:
    place = Place("127.0.0.1", 0)
    with listening(place) as listener:
        port = listener.getsockname()[1]
        assert address(place, listener, place.access()) == f"http://127.0.0.1:{port}/"
        with pytest.raises(UserError, match=rf"cannot listen at 127\.0\.0\.1, port {port}: .*--port"):
            listening(Place("127.0.0.1", port))
    with pytest.raises(UserError, match=r"192\.0\.2\.7.*--host"):
        listening(Place("192.0.2.7", 0))


@pytest.mark.parametrize(
    ("host", "port"), [("127.0.0.1", 70_000), ("127.0.0.1", -1), ("a..b", 0), ("a" * 70, 0)]
)
def test_what_is_no_address_is_refused(host: str, port: int) -> None:
    with pytest.raises(UserError, match=r"cannot listen at .*--port"):
        listening(Place(host, port))


def test_ctrl_c_is_how_a_page_ends() -> None:
    """It says nothing of an interrupted run, and the command ends with 0."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "lifespan.startup.complete"})
        os.kill(os.getpid(), signal.SIGINT)
        await receive()
        await send({"type": "lifespan.shutdown.complete"})

    with stop_request(), listening(Place("127.0.0.1", 0)) as listener:
        serve(app, listener)
