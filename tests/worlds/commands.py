"""A command run in this process: PyTorch is imported already, so that it takes no seconds to start."""

import io
import subprocess
import sys
from collections.abc import Callable
from contextlib import chdir, redirect_stderr, redirect_stdout
from pathlib import Path

import pytest


def run_here(
    main: Callable[[], None], *arguments: str, folder: Path | None = None
) -> subprocess.CompletedProcess[str]:
    """What a process of its own that calls `main` in `folder` would have ended with, and said.

    What the interpreter itself does, such as warnings, is shown by a process alone.
    """
    out, err, code = io.StringIO(), io.StringIO(), 0
    with (
        pytest.MonkeyPatch.context() as patch,
        chdir(folder or Path.cwd()),
        redirect_stdout(out),
        redirect_stderr(err),
    ):
        patch.setattr(sys, "argv", ["fsgr", *arguments])
        try:
            main()
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else int(end.code is not None)
            if isinstance(end.code, str):
                print(end.code, file=err)
    return subprocess.CompletedProcess(arguments, code, out.getvalue(), err.getvalue())
