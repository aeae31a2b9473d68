"""What a machine lacks is told in one line, whichever library finds it out."""

import errno
import os
import re
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from fsgr_model.runtime.artifacts import load_json
from fsgr_model.runtime.errors import UserError, run_command
from fsgr_model.runtime.resources import allow_many_files, explain

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
