"""Checks the CLIP that a parameter file names: whether its weights exist, fit, or can be downloaded."""

import urllib.request
from pathlib import Path
from typing import Any

from huggingface_hub import try_to_load_from_cache

from fsgr_model.checkup.findings import Findings
from fsgr_model.clip.hub_download import weight_files
from fsgr_model.clip.open_clip_api import open_clip
from fsgr_model.clip.sources import clip_folder, load_folder, load_pretrained, read_config, without_connection
from fsgr_model.config.params import ClipParams
from fsgr_model.runtime.errors import UserError

Config = dict[str, Any]
# Where open_clip keeps what it downloads from elsewhere than Hugging Face.
OPEN_CLIP_CACHE = Path("~/.cache/clip")
SECONDS_TO_ANSWER = 5


def check_clip(params: ClipParams, findings: Findings) -> tuple[str, Config] | None:
    """Name and config of the CLIP, None if it has none; its own weights are loaded if they are here."""
    with findings.collected():
        folder = clip_folder(params.model, params.pretrained)
        if folder:
            _, config, _, origin = load_folder(folder, params.preprocess_as)
            findings.fact("clip", f"{folder}: weights {origin['pretrained']} fit")
            return folder.name, config
        name, config = read_config(params.model)
        if params.pretrained == "demo":
            findings.fact("clip", f"{name}, trained here on the training split: nothing to download")
            return name, config
        with findings.collected():
            _check_weights(name, config, params, findings)
        return name, config
    return None


def _check_weights(name: str, config: Config, params: ClipParams, findings: Findings) -> None:
    pretrained = params.pretrained
    tag = open_clip.get_pretrained_cfg(name, pretrained)
    if not tag:
        load_pretrained(name, config, pretrained, params.preprocess_as)
        findings.fact("clip", f"{name}: weights {pretrained} fit")
        return
    found = downloaded(tag)
    if found:
        findings.fact("clip", f"{name}: weights {pretrained} are in {found}")
        return
    place = f"https://huggingface.co/{tag['hf_hub'].rstrip('/')}" if tag.get("hf_hub") else tag["url"]
    if not answers(place):
        raise UserError(
            f"clip.pretrained: weights {pretrained} of {name} are not on this machine, and {place} does not "
            f"answer; connect to the internet, or {without_connection(tag)}"
        )
    findings.fact("clip", f"{name}: weights {pretrained} will be downloaded from {place}")


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
