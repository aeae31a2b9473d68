"""The benchmarks of data at tiny sizes: they run, and each row is a number that was measured."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from bench import cache, cider, demo_profile, extraction, jpeg_scaling, loader, memory, rounding
from bench.limits import Limits
from bench.rows import Row
from fsgr_model.clip.loading import Clip, build_model
from fsgr_model.config.params import RuntimeParams
from fsgr_model.runtime.errors import UserError

CPU = torch.device("cpu")
LIMITS = Limits(100.0, 100.0, 10.0, 1.0, 1.0, 10.0)


def check(rows: list[Row]) -> dict[str, Row]:
    assert all(np.isfinite(row.value) for row in rows)
    return {row.what: row for row in rows}


@pytest.mark.slow
def test_cider_d() -> None:
    captions, num_words = cider.drawn_captions(120)
    rows = check(cider.measure(cider.Work(captions, num_words, 900), CPU, LIMITS))
    assert rows["largest difference to pycocoevalcap"].value < 1e-9
    assert rows["document frequencies of 900 captions"].value > 0
    assert rows["reward, 100 images x 5"].ratio > 2


def test_cider_d_reads_coco_files(tmp_path: Path) -> None:
    annotations = [
        {"image_id": 7, "id": 1, "caption": "A dog, a cat."},
        {"image_id": 7, "id": 2, "caption": "a dog"},
    ]
    (tmp_path / "captions.json").write_text(json.dumps({"annotations": annotations}))
    assert cider.read_captions(tmp_path / "captions.json") == ({7: [[4, 5, 4, 6], [4, 5]]}, 7)


def test_loader(tmp_path: Path) -> None:
    rows = check(loader.measure(tmp_path, 120, CPU, LIMITS))
    assert rows["runtime.cache: disk"].value > 0 and rows["runtime.cache: ram"].ratio > 0
    assert 0 <= rows["waiting, steps of 20 ms with 50 images"].value <= 100


def test_cache(tmp_path: Path) -> None:
    rows = check(cache.measure("tiny", (5, 32), tmp_path, 120, rounds=1, device=CPU))
    assert rows["tiny, int8 in memory"].ratio == (32 + 2) / (32 * 2)
    assert sum(row.aim == cache.AIM_RATE and row.ratio > 0 for row in rows.values()) == 2


def test_errors_of_roundings_by_layer() -> None:
    torch.manual_seed(0)
    vision = {**extraction.TINY["vision_cfg"], "width": 64, "head_width": 16}
    config = {**extraction.TINY, "vision_cfg": vision}
    clip = Clip(build_model(config, "tiny").eval(), None, config, {})
    head, _, *lines = rounding.error_table(clip, torch.randn(2, 3, 16, 16))
    assert len(lines) == vision["layers"]
    names = head.strip("| ").split(" | ")[2:]
    for line in lines:
        cells = line.strip("| ").split(" | ")[2:]
        errors = {name: float(cell.split("%")[0]) for name, cell in zip(names, cells, strict=True)}
        by_error = sorted(errors, key=lambda name: errors[name])
        assert [name.split(",")[0] for name in by_error] == [
            "float16",
            "int8",
            "fp8 e4m3",
            "fp8 e4m3",
            "int4",
        ]


@pytest.mark.slow
def test_extraction(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    work = extraction.Work(extraction.TINY, 1, 400, (32, 24), RuntimeParams(workers=0, image_batch=4))
    rows = check(extraction.measure(tmp_path / "a", work, CPU))
    assert 0 < rows["extraction"].fraction < 1
    assert extraction.memory_row(tmp_path / "b", work).what == "memory grown over 400 pictures"


def test_jpeg_scaling_has_no_effect_where_the_picture_is_small(tmp_path: Path) -> None:
    work = extraction.Work(extraction.TINY, 1, 2, (640, 480), RuntimeParams())
    dataset, clip_folder = extraction.make_inputs(tmp_path, work, same=False)
    photographs = [path.read_bytes() for path in sorted((dataset / "images").glob("*.jpg"))]
    clip = jpeg_scaling.load_clip(clip_folder, CPU)
    rows = check(jpeg_scaling.measure(photographs, clip, jpeg_scaling.make_trunk(clip.model, 1)))
    assert rows["features, largest relative difference"].value > 0
    assert jpeg_scaling.decode(photographs[0], 400).size == (640, 480)
    assert jpeg_scaling.decode(photographs[0], 200).size == (320, 240)


def test_the_page_of_the_demo_has_every_stage() -> None:
    costs = [demo_profile.Cost("clip", 30.0, 40.0), demo_profile.Cost("features", 10.0, 12.0)]
    page = demo_profile.markdown(costs, "0abc123")
    assert "a fresh clone of 0abc123," in page
    assert "| clip | 30.0 | 75% | 40.0 |" in page and "| all | 40.0 | 100% | 52.0 |" in page


def test_a_stage_that_fails_is_told(tmp_path: Path) -> None:
    stages = {
        "stages": {
            "one": {"cmd": "python -c 1"},
            "two": {"cmd": "python -c 'raise SystemExit(\"no memory\")'"},
        }
    }
    (tmp_path / "dvc.yaml").write_text(yaml.safe_dump(stages))
    assert [cost.stage for cost in demo_profile.profile(tmp_path, ["one"])] == ["one"]
    with pytest.raises(UserError, match="stage two failed: no memory"):
        demo_profile.profile(tmp_path)


@pytest.mark.slow
def test_memory_is_measured_beside_its_estimate() -> None:
    """The demo's network: small, so that what libraries take weighs much."""
    rows = check(memory.phase_rows(Path("params.yaml"), memory.load_params(), "XE", [8]))
    measured = rows["XE step of 8 images, peak"]
    assert measured.value > 0.01 and 0.1 < measured.ratio < 10
    with pytest.raises(UserError, match="XE with 1 images failed"):
        memory.in_a_process(Path("no.yaml"), "XE", 1)
