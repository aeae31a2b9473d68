"""Files that are whole or absent: written beside their place, flushed, then renamed into it."""

import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fsgr_model.errors import UserError


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Yield a temporary path; when the block ends without an error, it becomes `path` at once."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    try:
        yield partial
        with partial.open("rb") as written:
            os.fsync(written.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


@contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """Yield an empty temporary folder; when the block ends without an error, it becomes `path`.

    A folder that was there before is moved away whole, and only then deleted: at no moment is there half of
    one in its place.
    """
    partial, former = (path.with_name(f"{path.name}.{state}") for state in ("partial", "former.partial"))
    for left_behind in (partial, former):
        shutil.rmtree(left_behind, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        yield partial
        # One wait for all files: a wait for each of thousands takes a minute.
        os.sync()
        if path.exists():
            path.replace(former)
        partial.replace(path)
    finally:
        for left_behind in (partial, former):
            shutil.rmtree(left_behind, ignore_errors=True)


def check_free_space(folder: Path, needed: int) -> None:
    """Stop before any work if the disk cannot hold `needed` more bytes.

    Raises:
        UserError: too little space; with both numbers.
    """
    folder.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise UserError(
            f"{folder} needs {_size(needed)} more, but its disk has {_size(free)} free; "
            "free some space and run the same command again"
        )


def _size(count: int) -> str:
    return f"{count / 1e9:.2f} GB" if count >= 1e8 else f"{count / 1e6:.2f} MB"


def save_json(path: Path, value: Any, indent: int | None = 1) -> None:
    """Write `value` as UTF-8 JSON, whole or absent. NaN and infinity are refused."""
    text = json.dumps(value, ensure_ascii=False, indent=indent, allow_nan=False)
    with whole_file(path) as partial:
        partial.write_text(text + "\n", encoding="utf-8")


def load_json(path: Path) -> Any:
    """Read a JSON file; the mark that some editors of Windows put before UTF-8 text is let pass.

    Raises:
        UserError: the file is missing, is not UTF-8 text, or is not valid JSON (with line and column).
    """
    try:
        return json.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        raise UserError(f"{path} does not exist; check the path, or run the stage that makes it") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not UTF-8 text (byte {error.start}); save it as UTF-8 JSON") from None
    except json.JSONDecodeError as error:
        raise UserError(
            f"{path} is not valid JSON: line {error.lineno}, column {error.colno}: {error.msg}"
        ) from None


def sha256_file(path: Path) -> str:
    """Hex SHA-256 of a file's bytes."""
    with path.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def fingerprint(value: Any) -> str:
    """16 hex digits that name a JSON-like value: equal values, equal digits, on any machine."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
