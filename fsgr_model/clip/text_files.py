"""What a text side of the library transformers needs beside the weights: a tokenizer, and the tower's config.

open_clip's config names them by their place on the hub; here they lie in a folder, so that no stage but
`clip` needs a connection.
"""

from pathlib import Path
from typing import Any

from fsgr_model.clip.model_building import build_tokenizer, read_tokenizer
from fsgr_model.clip.open_clip_api import import_transformers, open_clip
from fsgr_model.runtime.artifacts import load_json, sha256_file
from fsgr_model.runtime.errors import UserError

Config = dict[str, Any]
# Where they are in `data/clip/`, and how its config names them.
TEXT = "text"
TOWER, TOKENIZER = "hf_model_name", "hf_tokenizer_name"
# What they are, and the files that have to lie beside the weights where there is no connection.
WHAT = {TOKENIZER: "tokenizer", TOWER: "text tower"}
FILES = {TOKENIZER: "tokenizer_config.json and the tokenizer's files beside it", TOWER: "config.json"}


def text_places(config: Config) -> dict[str, str]:
    """The place on the hub, or the folder, that a config names for `TOKENIZER` and `TOWER`, if any."""
    text = config.get("text_cfg", {})
    return {key: text[key] for key in WHAT if text.get(key)}


def is_here(key: str, place: str) -> bool:
    """Whether transformers finds these files in the hub's cache, without a connection.

    Raises:
        UserError: transformers is not installed, or what it needs.
    """
    transformers = import_transformers(f"the {WHAT[key]} {place}")
    try:
        if key == TOWER:
            return transformers.AutoConfig.from_pretrained(place, local_files_only=True) is not None
        return read_tokenizer(place, local_files_only=True) is not None
    except (OSError, ValueError):
        return False


def fetch_tokenizer(config: Config) -> None:
    """Get the tokenizer's files where transformers has to read them: early, because weights take longer.

    Raises:
        UserError: transformers is not installed, or the files are not to be had.
    """
    if TOKENIZER in text_places(config):
        build_tokenizer(config)


def refuse_foreign_text(name: str, config: Config) -> None:
    """Refuse to train texts that are read by the library transformers, whose tokens have other ends.

    Raises:
        UserError: the config has such a tower or tokenizer.
    """
    for key, place in text_places(config).items():
        raise UserError(
            f"clip.pretrained is demo, and clip.model {name} has {key} {place!r}; the training here needs "
            "open_clip's own tokenizer and text tower: remove the key"
        )


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
