"""Files that are whole or absent: they are written to a temporary name, flushed, then renamed."""

import functools
import hashlib
import json
import os
import re
import shutil
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
from ruamel.yaml import YAML, YAMLError
from ruamel.yaml.error import MarkedYAMLError

from fsgr_model.runtime.errors import UserError, naming_file

# Bytes of memory per byte of JSON, parsed and checked: 4.1 were measured with 1.3 million captions.
MEMORY_PER_BYTE = 5
LARGE = 10**8


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Yield a temporary path; when the block ends without an error, it becomes `path` at once."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    try:
        with naming_file(path):
            yield partial
            with partial.open("rb") as written:
                os.fsync(written.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


@contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """Yield an empty temporary folder; when the block ends without an error, it becomes `path`.

    A folder that was there before is first moved away as a whole, and only then deleted, so `path` never
    holds half of a folder.
    """
    partial, former = (path.with_name(f"{path.name}.{state}") for state in ("partial", "former.partial"))
    _restore_former(former, path)
    for left_behind in (partial, former):
        shutil.rmtree(left_behind, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        yield partial
        # One flush for all files: to flush thousands of files one by one takes a minute.
        os.sync()
        if path.exists():
            path.replace(former)
        partial.replace(path)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        _restore_former(former, path)
        raise
    shutil.rmtree(former, ignore_errors=True)


def _restore_former(former: Path, path: Path) -> None:
    """Restore the former folder if a run ended, or was killed, between the two moves."""
    if former.exists() and not path.exists():
        former.replace(path)


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


def save_rows(path: Path, rows: Iterable[Mapping[str, int | str | list[str]]]) -> None:
    """Write many rows as `save_json` writes a list of them, byte for byte, one row after the other.

    A whole list of captions would take several times its file's size as text in memory, and the indenting
    encoder of Python is slow.
    """
    with whole_file(path) as partial, partial.open("w", encoding="utf-8") as file:
        start = "["
        for row in rows:
            fields = ",\n".join(f"  {_quoted(key)}: {_field(value)}" for key, value in row.items())
            file.write(f"{start}\n {{\n{fields}\n }}")
            start = ","
        file.write("[]\n" if start == "[" else "\n]\n")


def _field(value: int | str | list[str]) -> str:
    if isinstance(value, str):
        return _quoted(value)
    if isinstance(value, int):
        return str(value)
    return "[\n   " + ",\n   ".join(map(_quoted, value)) + "\n  ]" if value else "[]"


def load_json(path: Path, keys: Collection[str] | None = None) -> Any:
    """Read a JSON file; a byte order mark before the UTF-8 text is ignored.

    With `keys`, only these keys of all objects in it are kept: what no one reads takes no memory.

    Raises:
        UserError: the file is missing, cannot be read, is not UTF-8 text, or `parse_json` refuses it.
    """
    return parse_json(read_text(path), str(path), keys)


def read_text(path: Path) -> str:
    """The text of a UTF-8 file.

    Raises:
        UserError: the file is not UTF-8 text, or `read_bytes` refuses it.
    """
    return decoded(read_bytes(path), path)


def decoded(content: bytes, path: Path) -> str:
    """The text of a UTF-8 file whose bytes were read already.

    Raises:
        UserError: they are not UTF-8 text.
    """
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not UTF-8 text (byte {error.start}); save it as UTF-8") from None


def read_bytes(path: Path) -> bytes:
    """Read all bytes of a file.

    Raises:
        UserError: the file is missing, is a folder, may not be read, or is too large for the memory.
    """
    try:
        needed = MEMORY_PER_BYTE * path.stat().st_size
        # For small files the free memory is not checked.
        if needed > LARGE and needed > (free := psutil.virtual_memory().available):
            raise UserError(
                f"{path} takes about {_size(needed)} of memory to read, and {_size(free)} are free; "
                "close other programs, use a machine with more memory, or split the file"
            )
        return path.read_bytes()
    except FileNotFoundError:
        raise UserError(f"{path} does not exist; check the path, or run the stage that makes it") from None
    except OSError as error:
        raise UserError(
            f"{path} cannot be read ({error.strerror}); check its location and permissions"
        ) from None


# JSON text of a string; characters beyond ASCII are kept.
_quoted: Callable[[str], str] = json.encoder.encode_basestring
# A backslash escape: a whole surrogate pair, half of one (group 1), or anything else.
ESCAPE = re.compile(
    r"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|(u[dD][89a-fA-F][0-9a-fA-F]{2})|.)",
    re.DOTALL,
)


def parse_json(text: str, name: str, keys: Collection[str] | None = None) -> Any:
    """The value of a JSON text; `name` is for the message, `keys` are those that are kept.

    Raises:
        UserError: it is not valid JSON or holds half of a surrogate pair, which no file can keep (with line
            and column), an object has a key twice (Python would silently keep the last one), a number
            has more than 4,300 digits, or lists are nested thousands of levels deep.
    """
    for escape in ESCAPE.finditer(text):
        if escape[1]:
            line = text.count("\n", 0, escape.start()) + 1
            column = escape.start() - text.rfind("\n", 0, escape.start())
            raise UserError(
                f"{name} is not valid JSON: line {line}, column {column}: half of a surrogate pair, "
                f"\\{escape[1]}; write the whole character"
            )
    hook = _unique_keys if keys is None else functools.partial(_some_keys, frozenset(keys))
    try:
        return json.loads(text, object_pairs_hook=hook)
    except json.JSONDecodeError as error:
        raise UserError(
            f"{name} is not valid JSON: line {error.lineno}, column {error.colno}: {error.msg}"
        ) from None
    except RecursionError:
        raise UserError(
            f"{name} is nested too deeply for a file of this project; download or make it again"
        ) from None
    except ValueError as error:
        raise UserError(f"{name}: {error}; correct the file") from None


def load_yaml(path: Path) -> Any:
    """Read a YAML file of plain values; its tags cannot create other objects.

    Raises:
        UserError: the file is missing, cannot be read, is not UTF-8 text, or is not valid YAML.
    """
    return parse_yaml(read_text(path), str(path))


def parse_yaml(text: str, name: str) -> Any:
    """The value of a YAML text, as DVC reads it; `name` is for the message.

    That is YAML 1.2, where 010 is ten and `off` is a string. With YAML 1.1 a stage would run with another
    value than `dvc.lock` and `dvc exp show` name.

    Raises:
        UserError: it is not valid YAML, or has a key twice.
    """
    try:
        return YAML(typ="safe").load(text)
    except MarkedYAMLError as error:
        mark = error.problem_mark
        place = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        raise UserError(f"{name} is not valid YAML: {place}{error.problem or error.context}") from None
    except (YAMLError, ValueError, RecursionError) as error:
        raise UserError(f"{name} is not valid YAML: {' '.join(str(error).split())}") from None


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        keys = Counter(key for key, _ in pairs)
        raise ValueError(f"one object has the key {keys.most_common(1)[0][0]!r} twice")
    return found


def _some_keys(keys: frozenset[str], pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """As `_unique_keys`, without the values that are not read."""
    return {key: value for key, value in _unique_keys(pairs).items() if key in keys}


def checksum_file(path: Path) -> Path:
    """The path of the file that holds the checksum of `path`."""
    return path.with_name(f"{path.name}.sha256")


def write_checksum(path: Path) -> None:
    """Write the checksum of a file beside it, in the format of `sha256sum`."""
    with whole_file(checksum_file(path)) as partial:
        partial.write_text(f"{sha256_file(path)}  {path.name}\n", encoding="utf-8")


def load_checked_json(path: Path, remedy: str) -> Any:
    """The value of a JSON file that has a checksum file, as `load_json_and_sum` reads it."""
    return load_json_and_sum(path, remedy)[0]


def load_json_and_sum(path: Path, remedy: str) -> tuple[Any, str]:
    """The value of a JSON file that has a checksum file, and its SHA-256. `remedy` ends an error message.

    Raises:
        UserError: as `load_checked_bytes`.
    """
    data, found = load_checked_bytes(path, remedy)
    # A file that `save_json` wrote needs no further check.
    return json.loads(data), found


def checksum_of(path: Path) -> str:
    """The SHA-256 that a file had when it was written, from its checksum file; the file is not read."""
    return read_text(checksum_file(path))[:64]


def load_checked_bytes(path: Path, remedy: str) -> tuple[bytes, str]:
    """The bytes of a file that has a checksum file, and their SHA-256. `remedy` ends an error message.

    Raises:
        UserError: it or its checksum is missing, or a single bit of it has changed since it was written.
    """
    data = read_bytes(path)
    expected = checksum_of(path)
    found = hashlib.sha256(data).hexdigest()
    if found != expected:
        raise UserError(
            f"{path} is not as it was written: its SHA-256 is {found[:12]}…, {checksum_file(path).name} "
            f"beside it has {expected[:12] or 'none'}…; {remedy}"
        )
    return data, found


def sha256_file(path: Path) -> str:
    """Hex SHA-256 of a file's bytes."""
    with path.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def fingerprint(value: Any) -> str:
    """16 hex digits that identify a JSON-like value: equal values have equal digits on any machine."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def project_root() -> Path:
    """The folder of the project, also within the temporary copy of it that an experiment of DVC runs in."""
    return Path(os.environ.get("DVC_ROOT", "."))
