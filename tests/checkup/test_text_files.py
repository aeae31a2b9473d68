"""The check looks for what transformers has to read of a CLIP's text side, before anything runs."""

import json
from pathlib import Path
from typing import Any

import pytest

from fsgr_model.checkup import weights
from fsgr_model.clip import sources
from fsgr_model.clip.sources import load_pretrained, read_config
from fsgr_model.clip.text_files import TOKENIZER, TOWER, is_here
from fsgr_model.runtime.errors import UserError
from tests.checkup.conftest import TINY_CLIP, Project, fact


@pytest.fixture
def machine(project: Project, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Project:
    """A machine without a connection and with nothing in the hub's cache."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr(weights, "answers", lambda place: False)
    monkeypatch.setattr(weights, "downloaded", lambda tag: None)
    project.values["model"] |= {"align": "value", "tail": None}
    return project


def choose(project: Project, model: str, pretrained: str) -> None:
    project.values["clip"] |= {"model": model, "pretrained": pretrained}


def test_weights_and_tokenizer_that_are_not_to_be_had_are_one_problem(machine: Project) -> None:
    choose(machine, "ViT-B-16-SigLIP2", "webli")
    hub = "huggingface.co/timm/ViT-B-16-SigLIP2"
    assert machine.problem() == (
        "clip.pretrained: ViT-B-16-SigLIP2 needs weights webli, tokenizer timm/ViT-B-16-SigLIP2, which this "
        f"machine does not have, and https://{hub} does not answer; connect to the internet, or get the "
        f"weights and open_clip_config.json elsewhere from {hub}, tokenizer_config.json and the tokenizer's "
        f"files beside it from {hub}, set clip.model to the folder that they are in and clip.pretrained: "
        "folder"
    )


def test_a_tokenizer_is_looked_for_where_the_weights_are_here(
    machine: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(weights, "downloaded", lambda tag: Path("/cache/weights"))
    choose(machine, "ViT-B-16-SigLIP2", "webli")
    findings = machine.check()
    assert fact(findings, "clip").endswith("weights webli are in /cache/weights")
    (problem,) = findings.problems
    assert "needs tokenizer timm/ViT-B-16-SigLIP2, which this machine does not have" in problem
    assert fact(findings, "disk")


def test_a_text_tower_without_its_sizes_is_told_once(machine: Project) -> None:
    choose(machine, "xlm-roberta-base-ViT-B-32", "laion5b_s13b_b90k")
    problem = machine.problem()
    assert (
        "weights laion5b_s13b_b90k, tokenizer xlm-roberta-base, text tower xlm-roberta-base, which" in problem
    )
    assert "config.json from huggingface.co/xlm-roberta-base" in problem


def test_what_will_be_downloaded_is_told(machine: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weights, "answers", lambda place: True)
    choose(machine, "ViT-B-16-SigLIP2", "webli")
    findings = machine.check()
    assert not findings.problems
    place = "will be downloaded from https://huggingface.co/timm/ViT-B-16-SigLIP2"
    assert fact(findings, "text").endswith(f"tokenizer timm/ViT-B-16-SigLIP2 {place}")


def test_text_files_that_are_here_need_no_connection(
    machine: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(weights, "is_here", lambda key, place: True)
    monkeypatch.setattr(weights, "downloaded", lambda tag: Path("/cache/weights"))
    monkeypatch.setattr(weights, "answers", lambda place: pytest.fail("needs no network"))
    choose(machine, "ViT-B-16-SigLIP2", "webli")
    findings = machine.check()
    assert not findings.problems
    assert fact(findings, "text").endswith("tokenizer timm/ViT-B-16-SigLIP2 is in the cache of the hub")


def test_without_transformers_the_check_says_how_to_install_it(
    machine: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "transformers", None)
    choose(machine, "ViT-B-16-SigLIP2", "webli")
    assert (
        "tokenizer timm/ViT-B-16-SigLIP2 is one of the library transformers, which is not"
        in machine.problem()
    )


@pytest.mark.parametrize("key", [TOKENIZER, TOWER])
def test_texts_of_transformers_are_not_trained_here(machine: Project, key: str) -> None:
    text = {**TINY_CLIP["text_cfg"], key: "xlm"}
    (machine.root / "tiny_clip.json").write_text(json.dumps({**TINY_CLIP, "text_cfg": text}))
    assert f"has {key} 'xlm'; the training here needs" in machine.problem()


def put_into_cache(cache: Path, repository: str, files: dict[str, Any]) -> None:
    """As the hub's own library would."""
    place = cache / f"models--{repository.replace('/', '--')}"
    (place / "refs").mkdir(parents=True)
    (place / "refs" / "main").write_text("c0ffee")
    (place / "snapshots" / "c0ffee").mkdir(parents=True)
    for name, content in files.items():
        (place / "snapshots" / "c0ffee" / name).write_text(json.dumps(content))


def test_files_are_found_in_the_cache_of_the_hub(machine: Project, tmp_path: Path) -> None:
    assert not is_here(TOWER, "nobody/tower") and not is_here(TOKENIZER, "nobody/tower")
    put_into_cache(tmp_path / "hub", "nobody/tower", {"config.json": {"model_type": "xlm-roberta"}})
    assert is_here(TOWER, "nobody/tower") and not is_here(TOKENIZER, "nobody/tower")


def test_the_tokenizer_is_fetched_before_the_weights(
    machine: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sources, "fetch_weights", lambda hf_hub: pytest.fail("before any large download"))
    name, config = read_config("ViT-B-16-SigLIP2")
    with pytest.raises(UserError, match=r"hf_tokenizer_name 'timm/ViT-B-16-SigLIP2' .* cannot be fetched"):
        load_pretrained(name, config, "webli", None)
