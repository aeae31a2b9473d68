"""A page that is really served, and the Chromium of the system: every request beyond localhost fails."""

import os
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import uvicorn
from playwright.sync_api import Browser, Page, Route, expect, sync_playwright

from fsgr_model.page.app import Access, Served, make_app
from fsgr_model.page.server import Place, address, listening

# A state is waited for, never a time; this is only how long a machine under load may need for it.
LONGEST_S = 60
expect.set_options(timeout=1000 * LONGEST_S)
# The tab has what it asked for, and every picture that is to be seen.
QUIET = """() => !document.querySelector("[aria-busy]")
  && [...document.images].every((image) => image.complete || image.loading === "lazy")"""

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


def find_chromium() -> str | None:
    """The browser of the system; the variable CHROMIUM may name another one."""
    return os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)


@contextmanager
def chromium() -> Iterator[Browser]:
    """Without a sandbox, which a container's root cannot have; it opens our own page only."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=find_chromium(), args=["--no-sandbox"])
        try:
            yield browser
        finally:
            browser.close()


@dataclass
class Running:
    """A server in a thread of this process."""

    address: str
    server: uvicorn.Server
    thread: threading.Thread

    def stop(self) -> None:
        self.server.should_exit = True
        self.thread.join(20)
        assert not self.thread.is_alive()


@contextmanager
def running(served: Served) -> Iterator[Running]:
    place = Place("127.0.0.1", 0)
    with listening(place) as listener:
        config = uvicorn.Config(make_app(served, Access()), log_level="error", timeout_graceful_shutdown=1)
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        run = Running(address(place, listener, Access()), server, thread)
        try:
            yield run
        finally:
            run.stop()


@dataclass
class Watched:
    """A page of the browser, what it asked for beyond localhost, and what its console said."""

    page: Page
    beyond: list[str] = field(default_factory=list)
    console: list[str] = field(default_factory=list)

    def quiet(self) -> None:
        """Wait until the tab has come with its pictures, so that nothing moves any more."""
        self.page.wait_for_function(QUIET)

    def check(self, allowed: tuple[str, ...] = ()) -> None:
        """Nothing was asked for elsewhere; there is no error in the console but the `allowed`."""
        assert self.beyond == []
        assert [line for line in self.console if not any(each in line for each in allowed)] == []


@contextmanager
def opened(browser: Browser, at: str, **options: Any) -> Iterator[Watched]:
    """A new window of the browser at this address; nothing in it is animated."""
    usual = {"viewport": {"width": 1280, "height": 860}, "reduced_motion": "reduce"}
    context = browser.new_context(**(usual | options))
    watched = Watched(context.new_page())

    def only_here(route: Route) -> None:
        url = route.request.url
        if url.startswith(("http://127.0.0.1:", "blob:", "data:")):
            route.continue_()
        else:
            watched.beyond.append(url)
            route.abort()

    context.route("**/*", only_here)
    page = watched.page
    page.set_default_timeout(1000 * LONGEST_S)
    page.on("pageerror", lambda error: watched.console.append(f"error: {error}"))
    page.on(
        "console",
        lambda said: watched.console.append(said.text) if said.type == "error" else None,
    )
    page.goto(at)
    page.wait_for_selector("nav a[aria-current]")
    try:
        yield watched
    finally:
        context.close()
