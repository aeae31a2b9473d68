"""What a text side of the library transformers needs beside the weights: a tokenizer, and the tower's config.

open_clip's config names them by their place on the hub; here they lie in a folder, so that no stage but
`clip` needs a connection.
"""

from pathlib import Path
from typing import Any

from fsgr_model.clip.model_building import build_tokenizer
from fsgr_model.clip.open_clip_api import open_clip
from fsgr_model.runtime.artifacts import load_json, sha256_file
from fsgr_model.runtime.errors import UserError

Config = dict[str, Any]
# Where they are in `data/clip/`, and how its config names them.
TEXT = "text"
TOWER, TOKENIZER = "hf_model_name", "hf_tokenizer_name"


def keep_text_files(config: Config, model: Any, folder: Path) -> Config:
    """Write them to `folder`/text; the config that names them there, or `config` if it names none."""
    text, place = config.get("text_cfg", {}), folder / TEXT
    if text.get(TOWER):
        model.text.config.save_pretrained(place)
    if text.get(TOKENIZER):
        tokenizer: Any = build_tokenizer(config)
        tokenizer.save_pretrained(place)
    return _renamed(config, dict.fromkeys((TOWER, TOKENIZER), TEXT))


def kept_text_files(config: Config, folder: Path) -> Config:
    """The config as `build_model` takes it, from the one that `keep_text_files` returned."""
    return _renamed(config, dict.fromkeys((TOWER, TOKENIZER), str(folder / TEXT)))


def text_files_beside(config: Config, folder: Path) -> Config:
    """The config with the files of a CLIP's own folder in place of the hub's, as far as it has them."""
    found = {}
    if (folder / "tokenizer_config.json").is_file():
        found[TOKENIZER] = str(folder)
    described = folder / "config.json"
    if described.is_file() and load_json(described).get("model_type") in open_clip.hf_configs.arch_dict:
        found[TOWER] = str(folder)
    return _renamed(config, found)


def text_hashes(folder: Path) -> dict[str, str]:
    """SHA-256 of each of the files that `keep_text_files` wrote; empty if it wrote none."""
    return {path.name: sha256_file(path) for path in sorted((folder / TEXT).glob("*"))}


def check_text_files(folder: Path, expected: dict[str, str]) -> None:
    """Refuse files other than those that were written.

    Raises:
        UserError: one is missing or was changed.
    """
    found = text_hashes(folder)
    changed = sorted(name for name in expected if found.get(name) != expected[name])
    if changed:
        raise UserError(
            f"{folder / TEXT / changed[0]} is not the file that was written; run dvc repro -f clip"
        )


def _renamed(config: Config, names: dict[str, str]) -> Config:
    text = config.get("text_cfg", {})
    new = {key: name for key, name in names.items() if text.get(key)}
    return {**config, "text_cfg": {**text, **new}} if new else config
