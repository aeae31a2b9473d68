"""A folder of ONNX graphs that `fsgr export --onnx` wrote; the weights, those of CLIP too, are in the graphs.

- `trunk.onnx`, `tail.onnx`, `step.onnx`   the graphs: `onnx_graphs` says what goes in and what comes out;
- `trunk.onnx.data`                        weights of a graph that is too large for one file;
- `onnx.json`                              how pictures are prepared, the concepts, SHA-256 of each file;
- `vocab/words.json`                       the words;
- `params.yaml`, `metrics.json`, `README.md`   as in a folder with weights (`model_folder`).
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fsgr_model.config.params import Params, load_params
from fsgr_model.runtime.artifacts import fingerprint, load_json, save_json, sha256_file
from fsgr_model.runtime.errors import UserError

GRAPHS = ("trunk", "tail", "step")
DESCRIPTION, WORDS = "onnx.json", "vocab/words.json"
FILES = (DESCRIPTION, WORDS, *(f"{name}.onnx{part}" for name in GRAPHS for part in ("", ".data")))
FORMAT_VERSION = 1
NO_MAPS = (
    "label maps and attention are not in ONNX graphs: the first need MaskCLIP's form of CLIP's last block, "
    "the second what the decoder computes on its way; take the folder that fsgr export writes without --onnx"
)


@dataclass(frozen=True)
class OnnxFiles:
    """The files of `folder`."""

    folder: Path

    def params(self) -> Params:
        return load_params(self.folder / "params.yaml")


def graph_file(folder: Path, name: str) -> Path:
    """The file of the graph `name`, one of `GRAPHS`."""
    return folder / f"{name}.onnx"


def write_description(folder: Path, facts: dict[str, Any]) -> None:
    """Write `onnx.json` last: `facts`, and the SHA-256 of the graphs and words that are there."""
    hashes = {
        name: sha256_file(folder / name)
        for name in FILES
        if name != DESCRIPTION and (folder / name).is_file()
    }
    description = {"format_version": FORMAT_VERSION, **facts, "files": hashes}
    save_json(folder / DESCRIPTION, description | {"fingerprint": fingerprint(description)})


def read_description(folder: Path) -> dict[str, Any]:
    """The contents of `onnx.json`, whose files are there and as they were written.

    Raises:
        UserError: it is of a newer version, or it or another file is missing or has changed.
    """
    path = folder / DESCRIPTION
    found = load_json(path)
    version = found.get("format_version") if isinstance(found, dict) else None
    if not isinstance(version, int):
        raise UserError(f"{path} describes no graphs of this project; give a folder that fsgr export wrote")
    if version > FORMAT_VERSION:
        raise UserError(
            f"{path} was written by a newer version of this project: format {version}, this one reads "
            f"{FORMAT_VERSION}; update the project, or export the model again"
        )
    expected = found.pop("fingerprint", None)
    if expected != fingerprint(found):
        raise UserError(
            f"{path} is not as it was written: its contents do not have the fingerprint {expected}; "
            "get the folder again"
        )
    for name, sha256 in found["files"].items():
        _check(folder / name, sha256)
    return found


def _check(path: Path, expected: str) -> None:
    if not path.is_file():
        raise UserError(f"{path} does not exist; get the folder again")
    if (sha256 := sha256_file(path)) != expected:
        raise UserError(
            f"{path} is not the file that {DESCRIPTION} describes: SHA-256 is {sha256[:12]}…, expected "
            f"{expected[:12]}…; it was changed or cut short, get the folder again"
        )
