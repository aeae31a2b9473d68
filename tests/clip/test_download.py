"""Weights from a hub that is a server on this machine: progress is shown, and a killed download goes on."""

import hashlib
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
WEIGHTS = os.urandom(30_000_000)
# The hub's library writes in pieces of 10 MiB.
FIRST_PART, PIECE = 22_000_000, 10 * 2**20
# Two processes after each other that download; a fork has imported all. The number of each is said first.
DOWNLOADS = """
import hashlib, os
from fsgr_model.clip.open_clip_api import open_clip
from fsgr_model.clip.sources import _download
for _ in range(2):
    if (child := os.fork()) == 0:
        path = _download("ViT-B-16", "openai", open_clip.get_pretrained_cfg("ViT-B-16", "openai"))
        print(path.name, hashlib.sha256(path.read_bytes()).hexdigest(), flush=True)
        os._exit(0)
    print(child, flush=True)
    os.waitpid(child, 0)
"""


class Hub(ThreadingHTTPServer):
    """Has one file under every name; the first time that it is asked for it, it stops half-way and waits."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answer)
        self.ranges: list[str | None] = []
        self.half_way = threading.Event()


class Answer(BaseHTTPRequestHandler):
    server: Hub

    def do_HEAD(self) -> None:
        self.answer(200, WEIGHTS)

    def do_GET(self) -> None:
        asked = self.headers.get("Range")
        self.server.ranges.append(asked)
        start = int(re.match(r"bytes=(\d+)-", asked)[1]) if asked else 0
        self.answer(206 if asked else 200, WEIGHTS[start:])
        if len(self.server.ranges) > 1:
            self.wfile.write(WEIGHTS[start:])
            return
        for place in range(0, FIRST_PART, FIRST_PART // 22):
            self.wfile.write(WEIGHTS[place : min(place + FIRST_PART // 22, FIRST_PART)])
            time.sleep(0.05)
        self.server.half_way.set()
        time.sleep(60)

    def answer(self, code: int, body: bytes) -> None:
        self.send_response(code)
        start = len(WEIGHTS) - len(body)
        for name, value in {
            "ETag": '"weights"',
            "X-Repo-Commit": "0" * 40,
            "Accept-Ranges": "bytes",
            "Content-Length": str(len(body)),
            "Content-Range": f"bytes {start}-{len(WEIGHTS) - 1}/{len(WEIGHTS)}",
        }.items():
            self.send_header(name, value)
        self.end_headers()

    def log_message(self, *arguments: object) -> None:
        """Nothing."""


@pytest.fixture
def hub() -> Iterator[Hub]:
    with Hub() as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


@pytest.mark.slow
def test_a_download_shows_progress_and_goes_on_after_a_kill(hub: Hub, tmp_path: Path) -> None:
    environment = os.environ | {
        "HF_ENDPOINT": f"http://127.0.0.1:{hub.server_port}",
        "HF_HOME": str(tmp_path),
        "HF_HUB_OFFLINE": "0",
        "PYTHONPATH": str(ROOT),
    }
    with (tmp_path / "shown").open("w") as shown:
        command = [sys.executable, "-c", DOWNLOADS]
        both = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=shown, text=True)
    first = int(both.stdout.readline())
    assert hub.half_way.wait(60)
    written = wait_for_pieces(tmp_path)
    os.kill(first, signal.SIGKILL)
    said = both.communicate()[0].split()
    assert written == 2 * PIECE
    assert re.search(r"(35|70)%.*/30.0M", (tmp_path / "shown").read_text()), "progress"
    assert int(said[0]) != first
    assert said[1:] == ["open_clip_model.safetensors", hashlib.sha256(WEIGHTS).hexdigest()]
    assert hub.ranges == [None, f"bytes={written}-"]


def wait_for_pieces(folder: Path) -> int:
    """Bytes of the unfinished file, once two pieces are in it."""
    end = time.monotonic() + 30
    while time.monotonic() < end:
        sizes = [path.stat().st_size for path in folder.rglob("*.incomplete")]
        if sizes and sizes[0] >= 2 * PIECE:
            return sizes[0]
        time.sleep(0.05)
    raise AssertionError("nothing was written")
