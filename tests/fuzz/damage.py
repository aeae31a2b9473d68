"""Files as broken downloads, wrong exports and bad intentions make them: a good one, changed at random."""

import copy
import io
import json
import tarfile
from collections.abc import Callable
from typing import Any

from hypothesis import strategies as st

ODD_TEXTS = (
    "", " ", "\0", "\x1b[31m", "\ud800", "../../etc/passwd", "/etc/passwd", "..\\x", "a" * 300, "17", "é" * 9,
    "👩‍👩‍👧", "\u202eright to left", "שלום", "a\nb\r\tc", "\ufeff", "word " * 300, "<!--" * 50, "a@" * 99,
    ".", "..", "a//b", "CON", "\\", '"', "%s", "{0}", "NaN", "null",
)  # fmt: skip
ODD_NUMBERS = (0, -1, 1.0, 0.5, 2**31, 2**53 + 1, 2**63 - 1, 2**63, 10**400, 1e300, -0.0)
NOT_NUMBERS = (float("nan"), float("inf"), -float("inf"))
odd_values: st.SearchStrategy[Any] = st.sampled_from(
    [*ODD_TEXTS, *ODD_NUMBERS, *NOT_NUMBERS, None, True, False, [], {}, [[]], [{}], {"": 0}, [1, "a", None]]
)
random_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
TAR_FORMATS = (tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT)
INTERESTING_BYTES = (
    b"\0",
    b"\xff",
    b"\xff\xff\xff\xff",
    b"\x7f\xff\xff\xff",
    b"\x80",
    b'"',
    b"{",
    b"[" * 2_000,
)


@st.composite
def damaged_bytes(draw: st.DrawFn, whole: bytes) -> bytes:
    """One to four of: a bit flipped, cut off, a piece removed, repeated or overwritten, something put in."""
    data = bytearray(whole)
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(data)))
        length = draw(st.integers(1, 16))
        match draw(st.integers(0, 5)):
            case 0 if start < len(data):
                data[start] ^= 1 << draw(st.integers(0, 7))
            case 1:
                del data[start:]
            case 2:
                del data[start : start + length]
            case 3:
                data[start:start] = data[start : start + length]
            case 4:
                data[start : start + length] = draw(st.binary(max_size=16))
            case _:
                data[start:start] = draw(st.sampled_from(INTERESTING_BYTES))
    return bytes(data)


@st.composite
def damaged_json(draw: st.DrawFn, whole: bytes) -> bytes:
    """One to three places of the tree changed, removed or doubled; the text stays valid JSON (with NaN)."""
    tree = [json.loads(whole)]
    for _ in range(draw(st.integers(1, 3))):
        holder, key = draw(st.sampled_from(_places(tree)))
        match draw(st.integers(0, 3)):
            case 0 if holder is not tree:
                del holder[key]
            case 1 if isinstance(holder, list) and holder is not tree:
                holder.append(copy.deepcopy(holder[key]))
            case 2:
                holder[key] = copy.deepcopy(draw(random_values))
            case _:
                holder[key] = copy.deepcopy(draw(odd_values))
    return json.dumps(tree[0], ensure_ascii=draw(st.booleans())).encode("utf-8", "surrogatepass")


def _places(tree: Any) -> list[tuple[Any, Any]]:
    """Every list or object of the tree with each of its keys."""
    keys = range(len(tree)) if isinstance(tree, list) else list(tree)
    found: list[tuple[Any, Any]] = []
    for key in keys:
        found.append((tree, key))
        if isinstance(tree[key], list | dict):
            found += _places(tree[key])
    return found


Damage = Callable[[bytes], st.SearchStrategy[bytes]]


def either(whole: bytes) -> st.SearchStrategy[bytes]:
    """For JSON files: damage to the tree, or to the bytes."""
    return damaged_json(whole) | damaged_bytes(whole)


texts = st.text() | st.lists(st.sampled_from(ODD_TEXTS) | st.text(max_size=6), max_size=8).map(" ".join)
any_text = texts.map(lambda text: text.encode("utf-8", "surrogatepass"))


@st.composite
def _shards(draw: st.DrawFn) -> bytes:
    """A whole tar file of oddly named members of any type with odd contents."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w", format=draw(st.sampled_from(TAR_FORMATS))) as archive:
        for _ in range(draw(st.integers(0, 4))):
            stem = draw(st.sampled_from((*ODD_TEXTS, "1", "2", "1.png/3", "a/1")))
            entry = tarfile.TarInfo(f"{stem}.{draw(st.sampled_from(('png', 'txt', 'json', 'JPG', 'cls')))}")
            entry.type = draw(st.sampled_from((tarfile.REGTYPE,) * 4 + (tarfile.DIRTYPE, tarfile.LNKTYPE)))
            text = draw(st.sampled_from(ODD_TEXTS)) or json.dumps({"caption": draw(odd_values)})
            content = text.encode("utf-8", "surrogatepass")
            entry.size = len(content) if entry.type == tarfile.REGTYPE else 0
            try:
                archive.addfile(entry, io.BytesIO(content))
            except ValueError:  # this format cannot hold the name
                continue
    return packed.getvalue()


odd_shards = _shards()
