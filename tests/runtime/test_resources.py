"""What a machine lacks is told in one line, whichever library finds it out."""

import errno
import os
import re
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from fsgr_model.clip.weight_files import read_weights
from fsgr_model.runtime.artifacts import load_json, whole_file, whole_folder
from fsgr_model.runtime.errors import UserError, naming_file, run_command
from fsgr_model.runtime.resources import allow_many_files, explain
from fsgr_model.runtime.tensor_file import load_tensors

ROOT = Path(__file__).parents[2]
# Three libraries write a megabyte where a file may have 100 kB, and each failure ends a command.
FULL = """
import resource, sys
import numpy as np
from fsgr_model.runtime.artifacts import load_json
from fsgr_model.runtime.errors import UserError, run_command

def text():
    with open(folder + "/text", "w") as file:
        file.write("x" * 1_000_000)

def hdf5():
    import h5py
    with h5py.File(folder + "/rows.h5", "w") as file:
        file["rows"] = np.zeros(1_000_000, dtype=np.uint8)
        file.flush()

def safetensors():
    from safetensors.numpy import save_file
    save_file({"x": np.zeros(250_000)}, folder + "/weights.safetensors")

kind, folder = sys.argv[1:]
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
run_command({"text": text, "hdf5": hdf5, "safetensors": safetensors}[kind])
"""


@pytest.mark.parametrize("kind", ["text", "hdf5", "safetensors"])
def test_a_write_that_the_system_refuses_is_one_line(tmp_path, kind):
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", FULL, kind, str(tmp_path)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    first = done.stderr.splitlines()[0]
    assert first.startswith("error: a file grew beyond what this system allows"), done.stderr


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (OSError(errno.ENOSPC, "full", "x.json"), r"no space left on the disk \(x.json\); free some space"),
        (OSError(errno.EDQUOT, "quota"), "no space left on the disk; free"),
        (RuntimeError("Can't write data (errno = 28, error message = 'No space left')"), "no space left"),
        (OSError("Unable to flush (errno = 28, ...)"), "no space left"),
        (Exception("I/O error: No space left on device (os error 28)"), "no space left"),
        (OSError(errno.EMFILE, "many", "y"), r"too many open files \(y\), \d+ are allowed; .*ulimit -n"),
        (OSError(errno.EROFS, "ro", "data"), r"cannot open or write \(data\): the file system is read-only"),
        (PermissionError(errno.EACCES, "no", "data"), r"cannot open or write \(data\): no permission"),
    ],
)
def test_wording(error, line):
    found = explain(error)
    assert found is not None and "\n" not in found
    assert re.match(line, found)


@pytest.mark.parametrize("text", ["Unknown error 524 (os error 524)", "fsync failed (errno = 524, ...)"])
def test_an_error_without_a_name_is_told(text):
    line = explain(OSError(text))
    assert line is not None and "Unknown error 524" in line


def test_numbers_that_no_system_has_are_no_error():
    assert explain(RuntimeError("read failed: errno = 0, fd = 3")) is None


def test_an_error_that_names_no_file_gets_one():
    with pytest.raises(OSError, match="full") as error, naming_file(Path("x.h5")):
        raise OSError(errno.ENOSPC, "full")
    assert (explain(error.value) or "").startswith("no space left on the disk (x.h5); free some space")


@pytest.mark.parametrize(
    "error", [OSError(errno.EIO, "broken", "own name"), OSError(errno.EPIPE, "gone"), ValueError("no")]
)
def test_other_errors_stay_as_they_are(error):
    said = str(error)
    with pytest.raises(type(error)) as found, naming_file(Path("x.h5")):
        raise error
    assert str(found.value) == said


def test_a_library_that_keeps_the_number_in_its_text_is_told_with_the_file():
    with (
        pytest.raises(UserError, match=r"no space left on the disk \(x.safetensors\)"),
        naming_file(Path("x.safetensors")),
    ):
        raise OSError("No space left on device (os error 28)")


def test_what_is_written_is_named_where_the_system_does_not(tmp_path):
    with pytest.raises(OSError, match="quota") as error, whole_file(tmp_path / "x.json"):
        raise OSError(errno.EDQUOT, "quota")
    assert error.value.filename == str(tmp_path / "x.json")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("read", [lambda path: load_tensors(path, "remedy"), read_weights])
def test_weights_that_cannot_be_opened_are_not_called_missing(tmp_path, read):
    path = tmp_path / "x.safetensors"
    path.symlink_to(path)
    with pytest.raises((UserError, OSError)) as error:
        read(path)
    said = str(error.value) if isinstance(error.value, UserError) else explain(error.value)
    assert "Too many levels of symbolic links" in said and str(path) in said


@pytest.mark.parametrize("error", [OSError(errno.ESTALE, "stale"), KeyboardInterrupt()])
def test_a_folder_that_does_not_get_its_place_leaves_the_former_one(tmp_path, monkeypatch, error):
    folder = tmp_path / "features"
    folder.mkdir()
    (folder / "old").write_text("whole")
    replace = Path.replace

    def refuse(path, target):
        if path.name == "features.partial":
            raise error
        return replace(path, target)

    monkeypatch.setattr(Path, "replace", refuse)
    with pytest.raises(type(error)), whole_folder(folder) as partial:
        (partial / "new").write_text("whole")
    left = [file.relative_to(tmp_path).as_posix() for file in tmp_path.rglob("*")]
    assert left == ["features", "features/old"]


def test_a_run_killed_between_the_two_moves_loses_nothing(tmp_path):
    former = tmp_path / "features.former.partial"
    former.mkdir()
    (former / "old").write_text("whole")
    with pytest.raises(UserError), whole_folder(tmp_path / "features"):
        raise UserError("no")
    assert (tmp_path / "features" / "old").read_text() == "whole"


def test_a_list_too_large_for_the_memory_is_not_read(tmp_path):
    path = tmp_path / "captions.json"
    path.touch()
    os.truncate(path, 2**42)
    with pytest.raises(UserError, match=r"captions.json takes about 21990.23 GB .* to read, and .* free"):
        load_json(path)


def test_other_errors_keep_their_traceback():
    def broken():
        raise RuntimeError("a mistake in the program, errno unknown")

    with pytest.raises(RuntimeError):
        run_command(broken)


def test_the_limit_of_open_files_is_raised_as_far_as_it_goes():
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(256, before[1]), before[1]))
        allow_many_files()
        assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] == before[1]
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
