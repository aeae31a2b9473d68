"""JSON files whose shape is checked before anything reads them."""

from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import BeforeValidator, Field, TypeAdapter, ValidationError

from fsgr_model.runtime.artifacts import load_json
from fsgr_model.runtime.errors import UserError
from fsgr_model.runtime.listing import listed

# Ids are whole numbers that fit in 64 bits; neither text such as "17" nor true is an id.
Id = Annotated[int, Field(strict=True, ge=0, lt=2**63)]
# A list of texts; a single text becomes a list of one.
Texts = Annotated[list[str], BeforeValidator(lambda value: [value] if isinstance(value, str) else value)]
Form = TypeVar("Form")


def read_checked(path: Path, form: type[Form]) -> Form:
    """Read a JSON file into `form` (a dataclass or TypedDict); keys that it does not name are ignored.

    Raises:
        UserError: the file is missing, is not JSON, or `checked` refuses it.
    """
    return checked(load_json(path), form, path)


def checked(value: Any, form: type[Form], path: Path) -> Form:
    """Convert a value that was read from a JSON file to `form`.

    Raises:
        UserError: an entry lacks a key or has a wrong type; the message names file, entry and value.
    """
    try:
        return TypeAdapter(form).validate_python(value)
    except ValidationError as error:
        problems = [_described(problem) for problem in error.errors(include_url=False)]
        raise UserError(f"{path}: {listed(problems)}; correct the file") from None


def _described(problem: Any) -> str:
    """`annotations[12].image_id: Input should be a valid integer (found '7')`"""
    place = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in problem["loc"])
    if problem["type"] == "missing":
        return f"{place.lstrip('.')}: missing"
    found = problem["input"]
    shown = f" (found {found!r})" if isinstance(found, str | int | float | bool | None) else ""
    return f"{place.lstrip('.') or 'the file'}: {problem['msg']}{shown}"
