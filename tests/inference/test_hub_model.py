"""A model travels by a hub that is a server on this machine: what is pushed is what is loaded."""

import base64
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from huggingface_hub import HfApi, snapshot_download

from fsgr_model.inference import hub_model, onnx_folder
from fsgr_model.inference.hub_model import is_address, local_folder, parse_address, push
from fsgr_model.inference.model_folder import FILES, SHARED
from fsgr_model.runtime.errors import UserError

ROOT = Path(__file__).parents[2]
IMAGE = "data/dataset/images/151.png"


class Hub(ThreadingHTTPServer):
    """Keeps what each commit of one repository holds, and counts the files that were sent."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answer)
        self.commits: dict[str, dict[str, bytes]] = {}
        self.sent: list[str] = []
        self.private: list[bool] = []
        self.url = f"http://127.0.0.1:{self.server_port}"

    def commit_of(self, revision: str) -> str | None:
        newest = list(self.commits)[-1] if self.commits else None
        return newest if revision == "main" else revision if revision in self.commits else None


class Answer(BaseHTTPRequestHandler):
    server: Hub

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        for start, answer in (
            ("/api/models/me/small/revision/", self.about),
            ("/api/models/me/small/tree/", self.tree),
            ("/me/small/resolve/", self.file),
        ):
            if path.startswith(start):
                answer(path.removeprefix(start))
                return
        if path == "/api/models/me/small":
            self.about("main")
            return
        self.answer(404, b"{}", {"X-Error-Code": "RepoNotFound"})

    def do_POST(self) -> None:
        sent = self.rfile.read(int(self.headers["Content-Length"]))
        path = self.path.partition("?")[0]
        if path == "/api/repos/create":
            asked = json.loads(sent)
            self.server.private.append(asked.get("private") or asked.get("visibility") == "private")
            self.json({"url": f"{self.server.url}/me/small", "name": "me/small"})
        elif path == "/api/validate-yaml":
            self.json({"errors": [], "warnings": []})
        elif "/preupload/" in path:
            files = [
                {"path": file["path"], "uploadMode": "regular", "shouldIgnore": False}
                for file in json.loads(sent)["files"]
            ]
            self.json({"files": files})
        elif "/commit/" in path:
            lines = [json.loads(line) for line in sent.splitlines()]
            files = {
                line["value"]["path"]: base64.b64decode(line["value"]["content"])
                for line in lines
                if line["key"] == "file"
            }
            oid = f"{len(self.server.commits) + 1:040x}"
            self.server.commits[oid] = files
            self.json({"commitUrl": f"{self.server.url}/me/small/commit/{oid}", "commitOid": oid})
        else:
            self.answer(404, b"{}")

    def about(self, revision: str) -> None:
        commit = self.server.commit_of(revision)
        if commit is None:
            self.answer(404, b"{}", {"X-Error-Code": "RevisionNotFound"})
            return
        names = self.server.commits[commit]
        self.json({"id": "me/small", "sha": commit, "siblings": [{"rfilename": name} for name in names]})

    def tree(self, revision: str) -> None:
        commit = self.server.commit_of(revision)
        if commit is None:
            self.answer(404, b"", {"X-Error-Code": "RevisionNotFound"})
            return
        files = self.server.commits[commit]
        self.json(
            [
                {"type": "file", "path": name, "size": len(content), "oid": f"{hash(content) % 2**64:040x}"}
                for name, content in files.items()
            ]
        )

    def file(self, rest: str) -> None:
        revision, _, name = rest.partition("/")
        commit = self.server.commit_of(revision)
        if commit is None or name not in self.server.commits[commit]:
            self.answer(404, b"", {"X-Error-Code": "EntryNotFound"})
            return
        content = self.server.commits[commit][name]
        if self.command == "GET":
            self.server.sent.append(name)
        etag = f'"{hash(content) % 2**64:040x}"'
        self.answer(200, content, {"ETag": etag, "X-Repo-Commit": commit})

    def json(self, content: object) -> None:
        self.answer(200, json.dumps(content).encode(), {"Content-Type": "application/json"})

    def answer(self, code: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(code)
        for name, value in {**(headers or {}), "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *arguments: object) -> None:
        """Nothing."""


@pytest.fixture
def hub() -> Iterator[Hub]:
    with Hub() as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


def test_files_come_back_as_they_were_sent_and_once(hub: Hub, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(hub_model, "HfApi", partial(HfApi, endpoint=hub.url, token="mine"))
    ask = partial(snapshot_download, endpoint=hub.url, cache_dir=tmp_path / "cache")
    monkeypatch.setattr(hub_model, "snapshot_download", ask)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    for name in (*FILES, "notes.txt"):
        path = tmp_path / "model" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(100 * name.encode())
    first = push(tmp_path / "model", "hf://me/small")
    (tmp_path / "model" / "params.yaml").write_text("other")
    second = push(tmp_path / "model", "hf://me/small")
    assert [f"hf://me/small@{commit}" for commit in hub.commits] == [first, second] and all(hub.private)
    hub.commits[second[-40:]]["evil.pkl"] = b"never fetched"
    for address, parameters in ((first, b"params.yaml" * 100), ("hf://me/small", b"other")):
        folder = local_folder(address)
        found = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
        assert found == set(FILES)
        assert (folder / "params.yaml").read_bytes() == parameters
    hub.sent.clear()
    assert local_folder(second) == local_folder("hf://me/small") and hub.sent == []
    for address, told in (
        ("hf://me/other", "no such repository"),
        (f"hf://me/small@{'9' * 40}", "no such revision"),
    ):
        with pytest.raises(UserError, match=f"{address} cannot be loaded: there is {told}"):
            local_folder(address)
    with pytest.raises(UserError, match="a push makes a revision of its own"):
        push(tmp_path / "model", first)


@pytest.mark.slow
def test_what_is_pushed_is_what_is_loaded(hub: Hub, project: Path, tmp_path: Path) -> None:
    environment = os.environ | {
        "HF_ENDPOINT": hub.url,
        "HF_HOME": str(tmp_path / "home"),
        "HF_TOKEN": "mine",
        "HF_HUB_OFFLINE": "0",
        "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path]),
        "PYTHONWARNINGS": "ignore",
    }

    def fsgr(*arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "fsgr_model", *arguments]
        return subprocess.run(
            command, cwd=project, env=environment | more, capture_output=True, text=True, check=False
        )

    pushed = fsgr("export", "--phase", "xe", "--push", "hf://me/small")
    assert pushed.returncode == 0, pushed.stderr
    (commit,) = hub.commits
    assert f"hf://me/small@{commit} has it" in pushed.stdout and hub.private == [True]
    of_weights = set(FILES) - (set(onnx_folder.FILES) - set(SHARED))
    assert set(hub.commits[commit]) == of_weights
    expected = fsgr("caption", "--phase", "xe", IMAGE)
    hub.commits[commit]["evil.pkl"] = b"never fetched"
    loaded = fsgr("caption", "--model", f"hf://me/small@{commit}", IMAGE)
    assert (loaded.returncode, loaded.stdout) == (0, expected.stdout), loaded.stderr
    assert sorted(hub.sent) == sorted(of_weights)

    hub.sent.clear()
    for offline in ({"HF_HUB_OFFLINE": "1"}, {"HF_ENDPOINT": "http://127.0.0.1:9"}):
        again = fsgr("caption", "--model", f"hf://me/small@{commit}", IMAGE, **offline)
        assert (again.returncode, again.stdout) == (0, expected.stdout), again.stderr
    assert hub.sent == []
    for address in ("hf://me/other", f"hf://me/small@{'9' * 40}"):
        missing = fsgr("caption", "--model", address, IMAGE)
        assert missing.returncode == 1 and len(missing.stderr.splitlines()) == 1
        assert f"{address} cannot be loaded" in missing.stderr


def test_addresses() -> None:
    assert parse_address("hf://me/a.b-c") == ("me/a.b-c", None)
    assert parse_address("hf://me/small@v1.0") == ("me/small", "v1.0")
    assert is_address("hf://x") and not is_address("model") and not is_address(Path("hf://me/small"))
    for wrong in ("hf://", "hf://small", "hf://me/small/more", "hf://me/small@", "hf://me/small file"):
        with pytest.raises(UserError, match="is no model of the hub"):
            parse_address(wrong)
