"""Checks the CLIP that a parameter file names: whether its weights exist, fit, or can be downloaded."""

import urllib.request
from pathlib import Path
from typing import Any, NamedTuple

from huggingface_hub import try_to_load_from_cache

from fsgr_model.checkup.findings import Findings
from fsgr_model.clip.hub_download import weight_files
from fsgr_model.clip.open_clip_api import open_clip
from fsgr_model.clip.sources import clip_folder, load_folder, load_pretrained, read_config, without_connection
from fsgr_model.clip.text_files import TOWER, WHAT, is_here, refuse_foreign_text, text_places
from fsgr_model.config.params import ClipParams
from fsgr_model.runtime.errors import UserError

Config = dict[str, Any]
# Where open_clip keeps what it downloads from elsewhere than Hugging Face.
OPEN_CLIP_CACHE = Path("~/.cache/clip")
HUB = "https://huggingface.co/"
SECONDS_TO_ANSWER = 5


def check_clip(params: ClipParams, findings: Findings) -> tuple[str, Config] | None:
    """Name and config of the CLIP, None if it has none or the sizes of its text tower are not to be had; its
    own weights are loaded if they are here.
    """
    with findings.collected():
        folder = clip_folder(params.model, params.pretrained)
        if folder:
            _, config, _, origin = load_folder(folder, params.preprocess_as)
            findings.fact("clip", f"{folder}: weights {origin['pretrained']} fit")
            return folder.name, config
        name, config = read_config(params.model)
        if params.pretrained == "demo":
            refuse_foreign_text(name, config)
            findings.fact("clip", f"{name}, trained here on the training split: nothing to download")
            return name, config
        tag = open_clip.get_pretrained_cfg(name, params.pretrained)
        if tag:
            missing = _missing_parts(name, _parts(config, params.pretrained, tag), findings)
            with findings.collected():
                _refuse_missing(missing, name, config, tag)
            # Without the sizes of its text tower the model cannot be drawn.
            return None if TOWER in {part.key for part in missing} else (name, config)
        with findings.collected():
            load_pretrained(name, config, params.pretrained, params.preprocess_as)
            findings.fact("clip", f"{name}: weights {params.pretrained} fit")
        return name, config
    return None


class Part(NamedTuple):
    """What a tag of open_clip needs: where it is on this machine, else None, and where it is to be had."""

    key: str
    what: str
    here: str | None
    source: str


def _parts(config: Config, pretrained: str, tag: Config) -> list[Part]:
    """The weights of a tag, and what transformers reads of its text side."""
    weights = downloaded(tag)
    source = f"{HUB}{tag['hf_hub'].rstrip('/')}" if tag.get("hf_hub") else tag["url"]
    parts = [Part("weights", f"weights {pretrained}", f"are in {weights}" if weights else None, source)]
    for key, place in text_places(config).items():
        here = "is in the cache of the hub" if is_here(key, place) else None
        parts.append(Part(key, f"{WHAT[key]} {place}", here, f"{HUB}{place}"))
    return parts


def _missing_parts(name: str, parts: list[Part], findings: Findings) -> list[Part]:
    """Those that are neither here nor to be had; the others are reported."""
    silent = {source for source in {part.source for part in parts if not part.here} if not answers(source)}
    for part in parts:
        subject = "text" if part.key in WHAT else "clip"
        if part.here:
            findings.fact(subject, f"{name}: {part.what} {part.here}")
        elif part.source not in silent:
            findings.fact(subject, f"{name}: {part.what} will be downloaded from {part.source}")
    return [part for part in parts if part.source in silent and not part.here]


def _refuse_missing(missing: list[Part], name: str, config: Config, tag: Config) -> None:
    if missing:
        raise UserError(
            f"clip.pretrained: {name} needs {', '.join(part.what for part in missing)}, which this machine "
            f"does not have, and {missing[0].source} does not answer; connect to the internet, or "
            f"{without_connection(tag, config)}"
        )


def downloaded(tag: Config) -> Path | None:
    """The weight file of a tag, if open_clip has downloaded it before."""
    url = tag.get("url", "")
    kept = OPEN_CLIP_CACHE.expanduser() / Path(url).name
    if tag.get("hf_hub"):
        repository, names = weight_files(tag["hf_hub"])
        for file in names:
            cached = try_to_load_from_cache(repository, file)
            if isinstance(cached, str):
                return Path(cached)
        return None  # if a repository is named, open_clip ignores the address
    return kept if url and kept.is_file() else None


def answers(place: str) -> bool:
    """Whether an address on the internet answers, through the proxy if there is one."""
    request = urllib.request.Request(place, method="HEAD")
    try:
        with urllib.request.urlopen(request, timeout=SECONDS_TO_ANSWER):
            return True
    except OSError:
        return False
