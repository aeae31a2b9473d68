"""`data/clip/clip.json`: which CLIP it is, and how pictures are prepared for it. Reads no weights."""

from pathlib import Path
from typing import Any

from fsgr_model.runtime.artifacts import fingerprint, load_json
from fsgr_model.runtime.errors import UserError

DESCRIPTION = "clip.json"


def load_description(folder: Path) -> dict[str, Any]:
    """The contents of `clip.json`.

    Raises:
        UserError: it is missing, or is not as `save_clip` wrote it.
    """
    path = folder / DESCRIPTION
    description = load_json(path)
    expected = description.pop("fingerprint", None) if isinstance(description, dict) else None
    if expected != fingerprint(description):
        raise UserError(
            f"{path} is not as it was written: its contents do not have the fingerprint {expected}; "
            "run dvc repro -f clip"
        )
    return description


def clip_identity(description: dict[str, Any]) -> dict[str, Any]:
    """What a feature of this CLIP depends on, from the contents of `clip.json`."""
    identity = {
        "model": description["model"],
        "config": fingerprint(description["config"]),
        "weights": description["weights_sha256"],
        "preprocessing": description["preprocessing"],
    }
    if "text_sha256" in description:
        identity["text"] = fingerprint(description["text_sha256"])
    return identity
