"""The kind of a JSON file, for the message when a file of another kind is expected."""

from typing import Any

from fsgr_model.runtime.listing import listed

KEYS_SHOWN = 5
CAPTION_FILE = "a COCO caption file"
INSTANCE_FILE = "a COCO instance file"
KARPATHY = "a file of Karpathy's"
SCORES_BY_IMAGE = "a file of scores by image"
NO_CAPTIONS = "a list of images without captions"


def kind_of(value: Any) -> str:
    """A few words: `a COCO caption file`, `a list of results`, `an object with the keys a; b`."""
    if isinstance(value, dict):
        return _kind_of_object(value)
    if isinstance(value, list):
        if not value:
            return "an empty list"
        return "a list of results" if {"image_id", "caption"} <= _first(value).keys() else "a list"
    return "no list and no object"


def is_karpathy(value: Any) -> bool:
    """Whether it has `images` with `sentences`, as Karpathy's files have."""
    return isinstance(value, dict) and "sentences" in _first(value.get("images"))


def _kind_of_object(value: dict[str, Any]) -> str:
    annotation = _first(value.get("annotations"))
    if is_karpathy(value):
        return KARPATHY
    if "category_id" in annotation:
        return INSTANCE_FILE
    if "caption" in annotation:
        return CAPTION_FILE if "images" in value else "an object with `annotations` and no `images`"
    if {"signature", "references", "images"} <= value.keys():
        return SCORES_BY_IMAGE
    if "images" in value:
        return NO_CAPTIONS
    if value and all(isinstance(each, str) for each in value.values()) and all(map(str.isdecimal, value)):
        return "an object that gives image ids captions"
    keys = list(value)
    more = f" and {len(keys) - KEYS_SHOWN} more" if len(keys) > KEYS_SHOWN else ""
    return f"an object with the keys {listed(keys[:KEYS_SHOWN])}{more}" if keys else "an empty object"


def _first(rows: Any) -> dict[str, Any]:
    """The first of a list of objects; empty where there is none."""
    found = rows[0] if isinstance(rows, list) and rows else None
    return found if isinstance(found, dict) else {}
