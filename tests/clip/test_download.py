"""Weights from a hub that is a server on this machine: a killed download goes on where it stopped."""

import hashlib
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from huggingface_hub import hf_hub_download, hf_hub_url, try_to_load_from_cache

from fsgr_model.clip import hub_download
from fsgr_model.clip.hub_download import UNFINISHED, download
from fsgr_model.clip.open_clip_api import open_clip
from fsgr_model.clip.sources import _download

WEIGHTS = os.urandom(3_000_000)
FIRST_PART, PIECE = 2_200_000, 2**20
REPOSITORY = "timm/vit_base_patch16_clip_224.openai"
DOWNLOAD = f"""
import hashlib
from fsgr_model.clip.hub_download import fetch_weights
path = fetch_weights("{REPOSITORY}/")
print(path.name, hashlib.sha256(path.read_bytes()).hexdigest())
"""


class Hub(ThreadingHTTPServer):
    """Has one file under every name but those of `lacks`; sends `at_most` bytes, and then waits or ends."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answer)
        self.ranges: list[str | None] = []
        self.tokens: list[str | None] = []
        self.at_most: list[int] = []
        self.lacks: tuple[str, ...] = ()
        self.knows_parts, self.waits = True, False
        self.half_way = threading.Event()
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.sends_on_to: str | None = None


class Answer(BaseHTTPRequestHandler):
    server: Hub

    def do_HEAD(self) -> None:
        self.answer(404 if self.path.endswith(self.server.lacks or ("?",)) else 200, WEIGHTS)

    def do_GET(self) -> None:
        if self.path.startswith("/api/"):
            # Newer libraries ask for a list of the files first, and do without one.
            self.answer(404, b"")
            return
        self.server.tokens.append(self.headers.get("Authorization"))
        if self.server.sends_on_to:
            self.send_response(302)
            self.send_header("Location", self.server.sends_on_to)
            self.end_headers()
            return
        asked = self.headers.get("Range") if self.server.knows_parts else None
        self.server.ranges.append(asked)
        body = WEIGHTS[int(re.match(r"bytes=(\d+)-", asked)[1]) :] if asked else WEIGHTS
        self.answer(206 if asked else 200, body)
        limit = self.server.at_most.pop(0) if self.server.at_most else len(body)
        self.wfile.write(body[:limit])
        if self.server.waits:
            self.server.half_way.set()
            time.sleep(60)

    def answer(self, code: int, body: bytes) -> None:
        self.send_response(code)
        start = len(WEIGHTS) - len(body)
        for name, value in {
            "ETag": '"weights"',
            "X-Repo-Commit": "0" * 40,
            "X-Error-Code": "EntryNotFound" if code == 404 else "",
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
def test_a_download_goes_on_after_a_kill(hub: Hub, tmp_path: Path) -> None:
    settings = {"HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "0"}
    settings["PYTHONPATH"] = os.pathsep.join(sys.path)
    environment = os.environ | settings
    hub.at_most, hub.waits = [FIRST_PART], True
    run = subprocess.Popen([sys.executable, "-c", DOWNLOAD], env=environment, stdout=subprocess.DEVNULL)
    assert hub.half_way.wait(60)
    written = wait_for_pieces(tmp_path)
    run.kill()
    run.wait()
    hub.waits = False
    again = subprocess.run([sys.executable, "-c", DOWNLOAD], env=environment, capture_output=True, text=True)
    assert again.stdout.splitlines()[0].startswith("open_clip_model.safetensors: 3/3 MiB"), "progress"
    expected = f"open_clip_model.safetensors {hashlib.sha256(WEIGHTS).hexdigest()}"
    assert again.stdout.splitlines()[-1] == expected
    assert hub.ranges == ["bytes=0-", f"bytes={written}-"]
    # The library finds it from now on without a connection.
    assert try_to_load_from_cache(REPOSITORY, "open_clip_model.safetensors", tmp_path / "hub")
    assert not list(tmp_path.rglob(UNFINISHED + "/*"))


def wait_for_pieces(folder: Path) -> int:
    """Bytes of the unfinished file, once two pieces are in it."""
    end = time.monotonic() + 30
    while time.monotonic() < end:
        sizes = [path.stat().st_size for path in folder.rglob(f"{UNFINISHED}/*/*.safetensors")]
        if sizes and sizes[0] >= 2 * PIECE:
            return sizes[0]
        time.sleep(0.05)
    raise AssertionError("nothing was written")


def test_a_repository_with_the_older_name(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.lacks = ("open_clip_model.safetensors",)
    ask = partial(hf_hub_download, cache_dir=tmp_path, endpoint=hub.url)
    monkeypatch.setattr(hub_download, "hf_hub_download", ask)
    monkeypatch.setattr(hub_download, "hf_hub_url", partial(hf_hub_url, endpoint=hub.url))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    path = _download("ViT-B-16", {}, "openai", open_clip.get_pretrained_cfg("ViT-B-16", "openai"))
    assert path.name == "open_clip_pytorch_model.bin" and path.read_bytes() == WEIGHTS


def test_it_goes_on_by_itself_while_something_comes(hub: Hub, tmp_path: Path) -> None:
    hub.at_most = [1_000_000, 500_000]
    download(hub.url, tmp_path / "part", len(WEIGHTS))
    assert (tmp_path / "part").read_bytes() == WEIGHTS
    assert hub.ranges == ["bytes=0-", "bytes=1000000-", "bytes=1500000-"]
    hub.at_most = [100, 0]
    with pytest.raises(OSError, match="nothing was sent"):
        download(hub.url, tmp_path / "other", len(WEIGHTS))
    assert (tmp_path / "other").read_bytes() == WEIGHTS[:100]


def test_a_server_without_parts_begins_anew(hub: Hub, tmp_path: Path) -> None:
    hub.knows_parts = False
    (tmp_path / "part").write_bytes(WEIGHTS[:1000])
    download(hub.url, tmp_path / "part", len(WEIGHTS))
    assert (tmp_path / "part").read_bytes() == WEIGHTS


def test_more_than_there_is_is_no_file(hub: Hub, tmp_path: Path) -> None:
    with pytest.raises(OSError, match="3000000 bytes were sent instead of 2999999"):
        download(hub.url, tmp_path / "part", len(WEIGHTS) - 1)
    assert not (tmp_path / "part").exists()


def test_the_token_is_told_to_the_hub_only(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub_download, "build_hf_headers", lambda: {"authorization": "Bearer mine"})
    with Hub() as elsewhere:
        threading.Thread(target=elsewhere.serve_forever, daemon=True).start()
        hub.sends_on_to = elsewhere.url
        download(hub.url, tmp_path / "part", len(WEIGHTS))
        elsewhere.shutdown()
    assert (hub.tokens, elsewhere.tokens) == (["Bearer mine"], [None])
    assert elsewhere.ranges == ["bytes=0-"]
