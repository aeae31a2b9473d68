"""Runs the page under uvicorn until it is told to stop."""

import secrets
import socket
from contextlib import suppress
from dataclasses import dataclass

import uvicorn
from starlette.types import ASGIApp

from fsgr_model.page.app import Access
from fsgr_model.page.guard import LOOPBACK
from fsgr_model.runtime.errors import UserError
from fsgr_model.runtime.stopping import Stopped

SECONDS_TO_END = 5


@dataclass(frozen=True)
class Place:
    """Where the page listens; port 0: any that is free."""

    host: str
    port: int

    @property
    def is_loopback(self) -> bool:
        return self.host in LOOPBACK

    def access(self) -> Access:
        """On this machine alone the host's name is checked; elsewhere everybody needs a token."""
        return Access() if self.is_loopback else Access(hosts=None, token=secrets.token_urlsafe(24))


def listening(place: Place) -> socket.socket:
    """A socket that listens there.

    Raises:
        UserError: the address is not this machine's or none at all, or the port is taken or no port.
    """
    family = socket.AF_INET6 if ":" in place.host else socket.AF_INET
    try:
        return socket.create_server((place.host, place.port), family=family, backlog=128)
    except (OSError, OverflowError, UnicodeError) as error:  # a port beyond 65535; a name that is none
        reason = getattr(error, "strerror", None) or error
        raise UserError(
            f"cannot listen at {place.host}, port {place.port}: {reason}; "
            "name a free port with --port, or an address of this machine with --host"
        ) from None


def address(place: Place, listener: socket.socket, access: Access) -> str:
    """What to open in a browser."""
    host = f"[{place.host}]" if ":" in place.host else place.host
    token = f"?token={access.token}" if access.token else ""
    return f"http://{host}:{listener.getsockname()[1]}/{token}"


def serve(app: ASGIApp, listener: socket.socket) -> None:
    """Answer requests until Ctrl-C or SIGTERM; then those under way are finished, for some seconds.

    That is how a page ends, not how it fails: uvicorn raises the signal once more when it has ended.
    """
    config = uvicorn.Config(
        app,
        log_level="warning",
        access_log=False,
        lifespan="on",
        server_header=False,
        timeout_keep_alive=20,
        timeout_graceful_shutdown=SECONDS_TO_END,
    )
    with suppress(Stopped):
        uvicorn.Server(config).run(sockets=[listener])
