"""The whole pipeline in Chinese: the demo world with `dataset.demo.language: zh`, from picture to sheet."""

from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import yaml

from fsgr_model.runtime.artifacts import load_json
from fsgr_model.text.vocabulary import Vocabulary

ROOT = Path(__file__).parents[2]
STAGES = ("dataset", "clip", "features", "codebook", "labels", "vocab")
LEARNING = ("train_xe", "train_scst", "captions", "evaluate")


def write_params(**changes: Any) -> None:
    """The preset, so small that a network learns in a minute."""
    values = yaml.safe_load((ROOT / "presets" / "demo_zh.yaml").read_text("utf-8"))
    values["dataset"]["root"] = str(ROOT / "data" / "demo")
    values["dataset"]["demo"] |= {"train_images": 800, "val_images": 24, "test_images": 96}
    values["clip"]["model"] = str(ROOT / values["clip"]["model"])
    values["clip"]["training"] |= {"epochs": 8}
    values["model"] |= {"encoder_layers": 1, "decoder_layers": 1}
    values["vocab"]["min_count"] = 2
    values["xe"] |= {"epochs": 4, "schedule": None, **changes}
    values["scst"] |= {"batch_size": 64, "samples": 2}
    values["decode"]["beam_size"] = 3
    values["evaluate"] = {"java": [], "sheet_images": 6}
    values["runtime"] = {"workers": 0}
    Path("params.yaml").write_text(yaml.safe_dump(values, allow_unicode=True), "utf-8")


def run(*stages: str) -> dict[str, dict[str, Any]]:
    """The stages in turn; the scores that are there in the end."""
    for stage in stages:
        import_module(f"pipeline.{stage}").main()
    return {phase: load_json(Path(f"metrics/{phase}.json")) for phase in ("xe", "scst")}


@pytest.mark.slow
def test_the_demo_world_is_captioned_in_chinese(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("jieba")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    write_params()
    seeing = run(*STAGES, *LEARNING)
    captions = [row["caption"] for row in load_json(Path("data/captions/scst.json"))]
    assert len(captions) == 96 and all(caption and not caption.isascii() for caption in captions)
    assert not any(" " in caption for caption in captions)
    assert Vocabulary.load(Path("data/vocab/words.json")).segmenter == "jieba"
    signature = next(f["value"] for f in seeing["xe"]["provenance"] if f["what"] == "CIDEr signature")
    assert "jieba 0.42.1" in signature
    assert 0 <= seeing["xe"]["CHAIRi"] < 1 and "label_accuracy" in seeing["xe"]
    assert {row["metric"] for row in seeing["xe"]["omitted"]} >= {"bad_endings"}
    assert Path("plots/sheet.png").stat().st_size > 10_000
    write_params(shuffle_features=True)
    blind = run("train_xe", "captions", "evaluate")
    assert seeing["xe"]["CIDEr"] > 3 * blind["xe"]["CIDEr"], (seeing["xe"]["CIDEr"], blind["xe"]["CIDEr"])
