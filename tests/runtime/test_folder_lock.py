"""One run at a time in a folder on a file system without locks (NFS, Lustre): a file names who has it."""

import errno
import fcntl
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fsgr_model.runtime import folder_lock
from fsgr_model.runtime.errors import UserError
from fsgr_model.runtime.folder_lock import OWNER, locked

ROOT = Path(__file__).parents[2]
# A process on such a file system that has the folder, and says so.
HOLDER = """
import fcntl, sys, time
from pathlib import Path
from typing import Any
from fsgr_model.runtime.folder_lock import locked
def refuse(*_): raise OSError({number}, "no locks")
fcntl.flock = refuse
with locked(Path(sys.argv[1]), wait=False):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture(params=[errno.ENOLCK, errno.ENOSYS], ids=["NFS", "Lustre"])
def no_locks(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    def refuse(*_: object) -> None:
        raise OSError(request.param, os.strerror(request.param))

    monkeypatch.setattr(fcntl, "flock", refuse)
    return request.param


@pytest.fixture
def holder(tmp_path: Path, no_locks: int) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-c", HOLDER.format(number=no_locks), str(tmp_path / "run")]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, encoding="utf-8", cwd=ROOT)
    assert process.stdout is not None
    with process, process.stdout:
        while "held" not in process.stdout.readline():
            assert process.poll() is None, "it has to hold the folder"
        yield process
        process.kill()


def test_the_folder_is_had_and_given_back(tmp_path: Path, no_locks: int) -> None:
    for _ in range(2):
        with locked(tmp_path / "run", wait=False):
            assert f"process {os.getpid()} on " in (tmp_path / "run" / OWNER).read_text()
        assert not (tmp_path / "run" / OWNER).exists()


def test_another_process_is_refused_and_the_first_keeps_the_folder(
    tmp_path: Path, holder: subprocess.Popen[str]
) -> None:
    with (
        pytest.raises(UserError, match=f"already under way in process {holder.pid}"),
        locked(tmp_path / "run", wait=False),
    ):
        pass
    assert f"process {holder.pid} on " in (tmp_path / "run" / OWNER).read_text()


def test_the_folder_of_a_killed_process_is_free(tmp_path: Path, holder: subprocess.Popen[str]) -> None:
    holder.kill()
    holder.wait()
    assert (tmp_path / "run" / OWNER).exists(), "a killed process leaves its name behind"
    with locked(tmp_path / "run", wait=False):
        assert f"process {os.getpid()} on " in (tmp_path / "run" / OWNER).read_text()


def test_an_owner_on_another_machine_is_believed(tmp_path: Path, no_locks: int) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / OWNER).write_text("process 7 on elsewhere (lock 1:2)")
    with (
        pytest.raises(UserError, match=r"process 7 on elsewhere.*delete .*owner"),
        locked(tmp_path / "run", wait=False),
    ):
        pass
    assert (tmp_path / "run" / OWNER).read_text() == "process 7 on elsewhere (lock 1:2)"


def test_a_file_that_is_there_and_is_not_is_not_waited_for_without_end(
    tmp_path: Path, no_locks: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def contradict(path: Path, *_: object, **__: object) -> str:
        raise FileNotFoundError(errno.ENOENT, "gone", str(path))

    (tmp_path / OWNER).write_text("process 7 on elsewhere (lock 1:2)")
    monkeypatch.setattr(Path, "read_text", contradict)
    monkeypatch.setattr(Path, "exists", lambda path: False)
    with (
        pytest.raises(UserError, match=r"is deleted again and again while it is opened"),
        locked(tmp_path, wait=True),
    ):
        pass


def test_an_owner_that_cannot_be_written_is_deleted(
    tmp_path: Path, no_locks: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would keep out the next run."""
    plain = Path.open

    def full(path: Path, mode: str = "r", **options: Any) -> Any:
        opened = plain(path, mode, **options)
        return plain(Path("/dev/full"), "w") if mode == "x" else opened

    monkeypatch.setattr(Path, "open", full)
    with pytest.raises(OSError, match="No space left") as refused, locked(tmp_path, wait=False):
        pass
    assert refused.value.filename == str(tmp_path / OWNER)
    monkeypatch.setattr(Path, "open", plain)
    with locked(tmp_path, wait=False):
        assert (tmp_path / OWNER).exists()


def test_where_nothing_has_locks_the_way_out_is_told(
    tmp_path: Path, no_locks: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folder_lock.fcntl, "lockf", fcntl.flock)
    with (
        pytest.raises(UserError, match=r"have no locks .*nothing is lost: set TMPDIR"),
        locked(tmp_path / "run", wait=False),
    ):
        pass
