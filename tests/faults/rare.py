"""What commands come to seldom, called by its name: file systems without locks, held folders, Java."""

import errno
import fcntl
import io
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

from fsgr_model.checkup import weights
from fsgr_model.clip import hub_download, sources
from fsgr_model.runtime.errors import run_command
from fsgr_model.runtime.folder_lock import OWNER, locked
from fsgr_model.runtime.resume import resume_point
from fsgr_model.runtime.stopping import Stopped
from fsgr_model.scoring import meteor, spice, standing
from tests.faults.world import SOURCE, Driver, Values, command

HELD = BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
NO_LOCKS = OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))
FOLDER = Path("held")
# Says its version, or writes what SPICE would.
JAVA = """#!/bin/sh
case "$*" in
*-version*) echo 'java version "1.8.0"' >&2;;
*) while [ "$1" != -out ]; do shift; done
   echo '[{"image_id": 1, "scores": {"All": {"f": 0.5}}}]' > "$2";;
esac
"""


def driver(
    name: str, prepare: Callable[[Values], None] | None = None, ends: int = 0
) -> Callable[..., Driver]:
    """Of a function, which is run as a command is."""

    def made(main: Callable[[], None]) -> Driver:
        more = {} if prepare is None else {"prepare": prepare}
        return Driver(name, lambda: run_command(main), ends=ends, **more)

    return made


@contextmanager
def without_locks() -> Iterator[None]:
    with patch.object(fcntl, "flock", side_effect=NO_LOCKS):
        yield


def plain_features() -> None:
    command("features").main()


def features_without_locks() -> None:
    with without_locks():
        plain_features()


def features_on_two_disks() -> None:
    with patch.object(os, "link", side_effect=OSError(errno.EXDEV, os.strerror(errno.EXDEV))):
        plain_features()


@driver("wait for a folder")
def wait() -> None:
    with patch.object(fcntl, "flock", side_effect=[HELD, None]), locked(FOLDER, wait=True):
        pass


@driver("wait for a folder without locks")
def wait_without_locks() -> None:
    with without_locks(), patch.object(fcntl, "lockf", side_effect=[HELD, None]), locked(FOLDER, wait=True):
        pass


def _killed(params: Values) -> None:
    with without_locks(), locked(FOLDER, wait=False):
        owner = (FOLDER / OWNER).read_text()
    (FOLDER / OWNER).write_text(owner)


def _elsewhere(params: Values) -> None:
    FOLDER.mkdir()
    (FOLDER / OWNER).write_text("process 7 on elsewhere (lock 1:2)")


@driver("a folder of a killed run", _killed)
def killed() -> None:
    with without_locks(), locked(FOLDER, wait=False):
        pass


@driver("a folder of another machine", _elsewhere, ends=1)
def elsewhere() -> None:
    with without_locks(), locked(FOLDER, wait=False):
        pass


@driver("a folder whose owner finds no space", ends=1)
def no_space() -> None:
    plain = Path.open

    def full(path: Path, mode: str = "r", **options: Any) -> Any:
        opened = plain(path, mode, **options)
        if mode != "x":
            return opened
        opened.close()
        return plain(Path("/dev/full"), "w")

    with patch.object(Path, "open", full), without_locks(), locked(FOLDER, wait=False):
        pass


@driver("a signal", ends=1)
def stopped() -> None:
    with resume_point("stage", "key") as point:
        (point.folder / "state").write_text("half")
        raise Stopped("SIGTERM")


def _java(params: Values) -> None:
    program = Path("old/bin/java")
    program.parent.mkdir(parents=True)
    program.write_text(JAVA)
    program.chmod(0o755)
    for jar in spice.JARS:
        Path(jar).touch()


@driver("SPICE", _java)
def run_spice() -> None:
    here = {"LIBRARIES": Path(), "FOLDER": Path()}
    with patch.multiple(spice, **here), patch.dict(os.environ, JAVA_HOME=str(Path("old").absolute())):
        spice.spice({1: ["a dog"]}, {1: ["a dog"]})


@driver("METEOR", _java, ends=1)
def run_meteor() -> None:
    """A program that ends without an answer."""
    with meteor.MeteorProgram(Path("old/bin/java").absolute()) as program:
        program.score({1: ["a dog"]}, {1: ["a dog"]})


@driver("a download")
def download() -> None:
    with patch.object(sources.open_clip, "download_pretrained", lambda tag: "weights"):
        sources._download("name", {}, "tag", {})


class Served(io.BytesIO):
    """Three bytes of a server that sends no parts."""

    status = 200


def fetch(size: int) -> None:
    """Of a hub that is no server."""
    known = SimpleNamespace(
        will_download=True, local_path="held/models/snapshots/1/weights.bin", commit_hash="1", file_size=size
    )

    def found(repository: str, name: str, dry_run: bool = False) -> Any:
        return known if dry_run else known.local_path

    of_hub = {"hf_hub_download": found, "hf_hub_url": lambda *names, revision: "https://example.org"}
    served = patch.object(hub_download.urllib.request, "urlopen", lambda *given, timeout: Served(b"abc"))
    with patch.multiple(hub_download, **of_hub), served:
        sources._download("name", {}, "tag", {"hf_hub": "someone/clip/weights.bin"})


@driver("a file of the hub")
def fetch_whole() -> None:
    fetch(3)


@driver("a file of the hub that is too long", ends=1)
def fetch_too_long() -> None:
    fetch(2)


@driver("standing in a checkout")
def stand() -> None:
    """Scores of one seed less than are known."""
    metrics = Path("metrics")
    scores = {phase: json.loads((metrics / f"{phase}.json").read_text()) for phase in standing.PHASES}
    seeds = {f"learn-{seed}": {phase: {standing.SCORE: seed} for phase in scores} for seed in (1, 2)}
    standing.SEEDS.write_text(json.dumps(seeds))
    other = {phase: {**report, standing.SCORE: 1} for phase, report in scores.items()}
    said = [*map(json.dumps, other.values()), ""]
    with patch.object(standing, "git", side_effect=said):
        standing.standing(metrics, Path("params.yaml"))


def _killed_between_moves(params: Values) -> None:
    Path("data/codebook").rename("data/codebook.former.partial")


def _no_embeddings(params: Values) -> None:
    Path("data/codebook/codebook.safetensors").unlink()


def _broken_list(params: Values) -> None:
    (SOURCE / "captions_val.json").write_text("{")


@driver("weights that were downloaded")
def downloaded() -> None:
    weights.downloaded({"url": "https://example.org/weights.pt"})


RARE = [
    Driver("features without locks", features_without_locks),
    Driver("features on two disks", features_on_two_disks),
    command("codebook", prepare=_killed_between_moves),
    command("labels", prepare=_no_embeddings, ends=1),
    command("check", "--no-timing", prepare=_broken_list, ends=1),
    downloaded, wait, wait_without_locks, killed, elsewhere, no_space, stopped,
    run_spice, run_meteor, download, fetch_whole, fetch_too_long, stand,
]  # fmt: skip
