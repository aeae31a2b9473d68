"""Every parameter of params.yaml, in docs/reference/parameters.md: python -m tests.listings.parameters"""

import types
import typing
from collections.abc import Iterator
from pathlib import Path
from types import NoneType
from typing import Annotated, Any, Literal, Union

import yaml
from annotated_types import Ge, Gt, Le, Lt, MinLen
from pydantic.fields import FieldInfo

from fsgr_model.config.dataset_params import DemoDataset, files_of_format
from fsgr_model.config.params import Params
from fsgr_model.config.section import Section
from fsgr_model.datasets.formats import FORMATS

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "reference" / "parameters.md"
SIGNS = {Ge: ("ge", "at least"), Gt: ("gt", "above"), Le: ("le", "at most"), Lt: ("lt", "below")}
NAMES = {int: "integer", float: "number", str: "text", bool: "true or false"}
# The parameters that say which of several sections one is.
DISCRIMINATORS = ("kind", "format")
HEAD = """# Every parameter

These are the parameters of `params.yaml`, section by section. *Default* is the value of a parameter that the
file leaves out; a parameter without a default must be in the file. *Demo* is what the committed `params.yaml`
sets. A value of another type, a value beyond its bounds and a name that is not listed here are refused in one
line before anything runs. The files in `presets/` name the source of each of their values.

`dataset` has the parameters of its format, and no others. `runtime` may be left out, and begun with `+`
(`dvc exp run -S +runtime.workers=8`). A section that may be null is off where it is null. DVC sets no value
inside of null, and says so with the `+` that does; it makes the whole section
(`dvc exp run -S 'model.memory={kind: learned, size: 64}'`) or begins one
(`-S +model.memory.kind=learned -S +model.memory.size=64`), and what such a section lacks is told in one line.

This page is written by `python -m tests.listings.parameters` from the types, bounds and descriptions in
`fsgr_model/config/`; a test compares it with them.
"""


def page() -> str:
    demo = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    return HEAD + "".join(section("", Params, demo))


def section(name: str, kind: type[Section], demo: Any) -> Iterator[str]:
    """The parameters of a section, then the sections in it. `demo`: its values in params.yaml, if any."""
    yield f"\n## {f'`{name}`{of_what(kind)}' if name else 'Top level'}\n\n{first_paragraph(kind)}\n"
    fields = kind.model_fields
    plain = {field: info for field, info in fields.items() if not is_section(info)}
    if plain:
        yield "\n| parameter | value | default | demo | what it is |\n|---|---|---|---|---|\n"
    for field, info in plain.items():
        yield row(f"{name}.{field}" if name else field, info, demo)
    if kind is DemoDataset:
        yield formats()
    for field, info in fields.items():
        label = f"{name}.{field}" if name else field
        below = demo.get(field) if isinstance(demo, dict) else None
        for inner in filter(has_own_part, sections_of(info.annotation)):
            entry = f"{label}[]" if is_list(info.annotation) else label
            yield from section(entry, inner, below if belongs(below, inner) else None)


def formats() -> str:
    """The formats of a dataset, from their registry, with the parameter that each needs."""
    rows = (
        f"| `{name}` | {escaped(form.what)} | `dataset.{files_of_format(name)}` |\n"
        for name, form in FORMATS.items()
    )
    return (
        "\nThe formats (`fsgr_model/datasets/formats.py`; [how to use each](../howto/formats.md)):\n\n"
        f"| `dataset.format` | files | parameter |\n|---|---|---|\n{''.join(rows)}"
    )


def belongs(values: Any, kind: type[Section]) -> bool:
    """Whether values of params.yaml are of this section: a parameter may be one of several sections."""
    return isinstance(values, dict) and all(
        values.get(name, info.default) in typing.get_args(info.annotation)
        for name, info in kind.model_fields.items()
        if name in DISCRIMINATORS
    )


def of_what(kind: type[Section]) -> str:
    """Which of several sections this is: ", kind: learned"."""
    return "".join(
        f", {name}: {one_of(list(typing.get_args(info.annotation)))}"
        for name, info in kind.model_fields.items()
        if name in DISCRIMINATORS
    )


def first_paragraph(kind: type[Section]) -> str:
    return " ".join((kind.__doc__ or "").strip().partition("\n\n")[0].split())


def row(name: str, info: FieldInfo, demo: Any) -> str:
    field = name.rpartition(".")[2]
    in_demo = code(demo[field]) if isinstance(demo, dict) and field in demo else ""
    if in_demo and isinstance(demo[field], dict) and any(map(has_own_part, sections_of(info.annotation))):
        in_demo = "below"
    default = "" if info.is_required() else code(info.get_default(call_default_factory=True))
    kind = described(info.annotation, info.metadata)
    return f"| `{name}` | {kind} | {default} | {in_demo} | {escaped(info.description or '')} |\n"


def escaped(text: str) -> str:
    """Plain text in a cell of a table."""
    return text.replace("|", "&#124;").replace("*", "\\*").replace("<", "&lt;")


def code(value: Any) -> str:
    """A value as YAML has it, on one line."""
    if isinstance(value, Section):
        value = value.model_dump()
    text = yaml.safe_dump(value, default_flow_style=True, width=1000).removesuffix("\n...\n").strip()
    return f"`{text}`"


def described(kind: Any, bounds: list[Any] | None = None) -> str:
    """A type and its bounds in words: "integer, at least 1", "`auto`, `off` or null"."""
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if origin is Annotated:
        return described(inner[0], [*flat(inner[1:]), *(bounds or [])])
    if origin is Literal:
        return one_of([f"`{choice}`" for choice in inner])
    if origin in (Union, types.UnionType) and NoneType in inner:
        rest = [described(each, bounds) for each in inner if each is not NoneType]
        return one_of(["null", *rest])
    if origin in (Union, types.UnionType):
        return one_of([described(each, bounds) for each in inner])
    if origin is list:
        return f"list of {described(inner[0])}{bounds_in_words(bounds)}"
    if isinstance(kind, type) and issubclass(kind, Section):
        return "a section (below)" if has_own_part(kind) else mapping(kind)
    return NAMES[kind] + bounds_in_words(bounds)


def mapping(kind: type[Section]) -> str:
    """A small section on one line: its names and their types."""
    parts: dict[str, list[str]] = {
        described(info.annotation, info.metadata): [] for info in kind.model_fields.values()
    }
    for name, info in kind.model_fields.items():
        parts[described(info.annotation, info.metadata)].append(f"`{name}`")
    return "map of " + " and ".join(f"{', '.join(names)} ({words})" for words, names in parts.items())


def has_own_part(kind: type[Section]) -> bool:
    """Whether a section's parameters are described; one without descriptions is told where it is used."""
    return any(info.description or is_section(info) for info in kind.model_fields.values())


def one_of(texts: list[str]) -> str:
    texts = list(dict.fromkeys(texts))
    return texts[0] if len(texts) == 1 else f"{', '.join(texts[:-1])} or {texts[-1]}"


def flat(metadata: typing.Iterable[Any]) -> Iterator[Any]:
    """Bounds of `Annotated`, which pydantic's `Field` may hold."""
    for each in metadata:
        yield from each.metadata if isinstance(each, FieldInfo) else [each]


def bounds_in_words(bounds: list[Any] | None) -> str:
    found = []
    for bound in flat(bounds or []):
        for kind, (attribute, word) in SIGNS.items():
            if isinstance(bound, kind):
                found.append(f", {word} {getattr(bound, attribute):g}")
        if isinstance(bound, MinLen):
            found.append(f", at least {bound.min_length} of them")
    return "".join(found)


def sections_of(kind: Any) -> list[type[Section]]:
    """The sections in a type: itself, or those of `X | None`, `list[X]` and `Annotated[X, ...]`."""
    if isinstance(kind, type) and issubclass(kind, Section):
        return [kind]
    return [found for each in typing.get_args(kind) for found in sections_of(each)]


def is_section(info: FieldInfo) -> bool:
    """Nothing but a section, which has a part of the page of its own and needs no row."""
    kind = info.annotation
    return isinstance(kind, type) and issubclass(kind, Section) and has_own_part(kind)


def is_list(kind: Any) -> bool:
    return typing.get_origin(kind) is list or any(map(is_list, typing.get_args(kind)))


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
