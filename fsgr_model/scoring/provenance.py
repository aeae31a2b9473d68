"""Where numbers come from: revision, parameters, data, weights and versions."""

import platform
import subprocess
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from typing_extensions import TypedDict

from fsgr_model.runtime.artifacts import fingerprint, load_json, load_yaml, sha256_file
from fsgr_model.scoring.caption_tokens import Tokenizer, segmenter_of
from fsgr_model.scoring.result_file import ENSEMBLE
from fsgr_model.text.segmenters import described

PACKAGES = ("torch", "open_clip_torch", "pycocoevalcap", "numpy")
CIDER_SIGNATURE = (
    "CIDEr-D, n-grams 1-4, sigma 6, document frequencies of the evaluated references, no end token, "
    f"no post-processing, 1.0 is 100, pycocoevalcap {version('pycocoevalcap')}, tokens of "
)
# Sections of params.yaml on which no stage depends.
WITHOUT_EFFECT = ("on_track", "runtime")
JAVA = "Stanford's PTBTokenizer, by pycocoevalcap"


class Fact(TypedDict):
    what: str
    value: str


def cider_signature(tokenizer: Tokenizer) -> str:
    """What a CIDEr-D score depends on besides captions and references; only equal signatures compare."""
    return CIDER_SIGNATURE + _named(tokenizer)


def tokenizer_fact(tokenizer: Tokenizer) -> Fact:
    """Which program split the captions into tokens for the COCO metrics."""
    return Fact(what="tokenizer", value=_named(tokenizer))


def _named(tokenizer: Tokenizer) -> str:
    return JAVA if tokenizer == "java" else described(segmenter_of(tokenizer))


def package_versions() -> list[Fact]:
    """Versions of Python and of the packages that can change a number."""
    python = Fact(what="python", value=platform.python_version())
    return [python, *[Fact(what=name, value=version(name)) for name in PACKAGES]]


def git_revision() -> str:
    """The commit that is checked out, with `+changes` where tracked files differ from it."""
    try:
        revision = git("rev-parse", "HEAD")
        return revision + ("+changes" if git("status", "--porcelain", "--untracked-files=no") else "")
    except (FileNotFoundError, PermissionError, subprocess.CalledProcessError):
        return "unknown: not a git checkout"


def git(*arguments: str) -> str:
    """What a command of git says, without the last line break.

    Raises:
        FileNotFoundError: git is not installed.
        subprocess.CalledProcessError: it fails, outside a checkout for one.
    """
    done = subprocess.run(
        ["git", *arguments], check=True, capture_output=True, encoding="utf-8", errors="replace"
    )
    return done.stdout.strip()


def parameters_fact(params_file: Path) -> Fact:
    """Which parameters a run has: equal ones have equal fingerprints. Those without effect are left out."""
    params = {name: value for name, value in load_yaml(params_file).items() if name not in WITHOUT_EFFECT}
    return Fact(what=f"fingerprint of {params_file}", value=fingerprint(params))


def sums_of_models(data: Path, phase: str) -> dict[str, str]:
    """The SHA-256 of the weights that spoke; of an ensemble those of its members too."""
    if phase != ENSEMBLE:
        return {"model": sha256_file(data / "models" / phase / "model.safetensors")}
    members = load_json(data / "captions" / "members.json")
    return sums_of_models(data, "scst") | {f"member {name}": found for name, found in members.items()}


def pipeline_provenance(
    sums: Mapping[str, str], parameters: Fact, clip_identity: Mapping[str, Any]
) -> list[Fact]:
    """Everything that scores were made from; `sums`: the SHA-256 of files, by what they hold."""
    clip = f"{clip_identity['model']}, weights sha256 {clip_identity['weights']}"
    return [
        Fact(what="git revision", value=git_revision()),
        parameters,
        *[Fact(what=f"sha256 of {name}", value=found) for name, found in sums.items()],
        Fact(what="clip", value=clip),
        *package_versions(),
    ]
