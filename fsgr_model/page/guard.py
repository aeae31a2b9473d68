"""What is refused before a request is looked at: foreign hosts and origins, no token, too much at once.

A page of another site that is open in the same browser can send requests to this machine. It cannot set the
headers `Host` and `Origin`: a browser writes there what the address bar has, also where a name of the other
site was pointed at 127.0.0.1 (DNS rebinding).
"""

import hmac
from http.cookies import CookieError, SimpleCookie
from urllib.parse import parse_qs, urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})
COOKIE = "fsgr_token"
SECONDS_TO_WAIT = 1
# Nothing but our own files: no other host, no inline script, no frame around the page.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


class Guard:
    """ASGI middleware around the whole page.

    Args:
        app: what answers the requests that are let through.
        hosts: the names by which the page may be addressed; None: any, where a token is asked for.
        token: what a request must carry, as a cookie or as `Authorization: Bearer TOKEN`; None: nothing. The
            address `/?token=TOKEN` sets the cookie.
        most_at_once: requests in progress; further ones get status 503 and `Retry-After`.
    """

    def __init__(
        self, app: ASGIApp, *, hosts: frozenset[str] | None, token: str | None, most_at_once: int
    ) -> None:
        if hosts is None and token is None:
            raise ValueError("any host may be named only where a token is asked for")
        self.app, self.hosts, self.token, self.most_at_once = app, hosts, token, most_at_once
        self.at_once = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        if scope["type"] != "http":  # there are no web sockets here
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers[name] = value
                headers.setdefault("Cache-Control", "no-store")
            await send(message)

        if refusal := self._refusal(scope):
            await refusal(scope, receive, send_with_headers)
            return
        self.at_once += 1
        try:
            await self.app(scope, receive, send_with_headers)
        finally:
            self.at_once -= 1

    def _refusal(self, scope: Scope) -> Response | None:
        headers = Headers(scope=scope)
        host = headers.get("host", "")
        if self.hosts is not None and name_of(host) not in self.hosts:
            return refused(
                403, f"this page is not to be had under the name {host!r}; open it as it was printed"
            )
        origin = headers.get("origin")
        if origin is not None and place_of(origin) != host:
            return refused(403, f"a request of {origin!r} is not answered; only this page's own are")
        if self.token is not None and not self._knows_token(headers):
            return self._welcome(scope)
        if self.at_once >= self.most_at_once:
            return busy(self.most_at_once)
        return None

    def _knows_token(self, headers: Headers) -> bool:
        assert self.token is not None, "it is asked for"
        scheme, _, given = headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer":
            given = cookie_of(headers)
        return hmac.compare_digest(given.encode(), self.token.encode())

    def _welcome(self, scope: Scope) -> Response:
        """Take the token out of the address, where it would stay in the history, into a cookie."""
        assert self.token is not None, "it is asked for"
        given = parse_qs(scope["query_string"].decode("latin-1")).get("token", [""])[0]
        if scope["path"] != "/" or not hmac.compare_digest(given.encode(), self.token.encode()):
            return refused(401, "a token is needed; open the address that fsgr page printed")
        response = RedirectResponse("/", status_code=303)
        response.set_cookie(COOKIE, self.token, httponly=True, samesite="strict")
        return response


def name_of(host: str) -> str:
    """The name in a `Host` header, without port and brackets, in lower case; "" where there is none."""
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""


def place_of(origin: str) -> str | None:
    """Host and port of an `Origin` header; None where it is no address."""
    try:
        return urlsplit(origin).netloc
    except ValueError:
        return None


def cookie_of(headers: Headers) -> str:
    """The token of the cookie; "" where there is none."""
    try:
        morsel = SimpleCookie(headers.get("cookie", "")).get(COOKIE)
    except CookieError:
        return ""
    return morsel.value if morsel else ""


def refused(status: int, reason: str) -> Response:
    """The answer to a request that is not met; `reason` says the rule and what to do."""
    return JSONResponse({"error": reason}, status)


def busy(most: int) -> Response:
    """The answer to one request too many."""
    return JSONResponse(
        {"error": f"{most} requests are in progress; send it again in {SECONDS_TO_WAIT} s"},
        status_code=503,
        headers={"Retry-After": str(SECONDS_TO_WAIT)},
    )
