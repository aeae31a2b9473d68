"""Every benchmark runs, at sizes that take no time, so that the commands do not rot."""

from dataclasses import asdict
from types import SimpleNamespace

import pytest
import torch

from bench import beam, limits, scst_step, xe_step
from bench import options as options_module
from bench.limits import Limits, measure_limits
from bench.networks import TINY
from bench.options import DTYPES, PAGE, Options, read_options
from bench.rows import Row, publish
from bench.run import BENCHES
from bench.steps import Bench
from bench.timing import matmul_flops
from fsgr_model.runtime.artifacts import load_json
from fsgr_model.runtime.errors import UserError

CPU = torch.device("cpu")
LIMITS = Limits(100.0, 400.0, 30.0, 1.0, 1.0, 10.0)
MODULES = {"xe_step": xe_step, "scst_step": scst_step, "beam": beam}


def tiny(*dtypes: torch.dtype, compile: bool = False) -> Bench:
    return Bench(Options(CPU, dtypes, compile, (2,), rounds=1, sizes=TINY), LIMITS)


@pytest.mark.parametrize("name", MODULES)
@pytest.mark.slow
def test_it_runs_and_every_aim_has_a_measured_ratio(name):
    rows = MODULES[name].measure(tiny(*DTYPES.values()))
    assert all(row.value > 0 for row in rows)
    aimed = [row for row in rows if row.aim]
    assert aimed and all(row.ratio is not None or row.fraction is not None for row in aimed)


@pytest.mark.nightly
@pytest.mark.parametrize("name", MODULES)
def test_it_runs_compiled(name):
    rows = MODULES[name].measure(tiny(torch.float32, compile=True))
    assert any("compiled" in row.what for row in rows)


@pytest.mark.parametrize("name", BENCHES)
def test_the_page_has_a_place_for_its_tables(name):
    text = PAGE.read_text(encoding="utf-8")
    assert text.count(f"<!-- {name} -->") == text.count(f"<!-- /{name} -->") == 1


def test_rows_are_printed_kept_and_put_into_the_page(tmp_path, capsys):
    page = tmp_path / "speed.md"
    page.write_text("before\n<!-- xe_step -->\nold\n<!-- /xe_step -->\nafter\n")
    rows = [Row("a step", 12345.6, "captions/s", 0.631, "matmul", 4.567, "the reference", "at least 4.5 x")]
    publish("other", [], LIMITS, CPU, out=tmp_path / "speed.json", page=None)
    publish("xe_step", rows, LIMITS, CPU, out=tmp_path / "speed.json", page=page)
    line = "| a step | 12,346 captions/s | 63% of matmul | 4.57 x the reference | at least 4.5 x |"
    assert line in capsys.readouterr().out
    text = page.read_text()
    assert line in text and "old" not in text
    assert text.startswith("before\n") and text.endswith("after\n")
    kept = load_json(tmp_path / "speed.json")
    assert kept.keys() == {"other", "xe_step"}
    assert kept["xe_step"]["rows"] == [asdict(rows[0])] and kept["xe_step"]["limits"] == asdict(LIMITS)


def test_an_entry_without_marks_gets_a_section_at_the_end(tmp_path):
    page = tmp_path / "speed.md"
    page.write_text("before\n")
    for _ in range(2):
        publish("beam", [], LIMITS, CPU, out=tmp_path / "speed.json", page=page)
    text = page.read_text()
    assert text.startswith("before\n\n## beam\n\n<!-- beam -->\n") and text.endswith("\n<!-- /beam -->\n")
    assert text.count("<!-- beam -->") == 1


@pytest.mark.parametrize("said", ["<!-- beam -->\n", "<!-- /beam -->\n", "<!-- /beam -->\n<!-- beam -->\n"])
def test_a_page_with_broken_marks_is_left_alone(tmp_path, said):
    page = tmp_path / "speed.md"
    page.write_text(said)
    with pytest.raises(UserError, match="<!-- beam -->"):
        publish("beam", [], LIMITS, CPU, out=tmp_path / "speed.json", page=page)
    assert page.read_text() == said


@pytest.mark.parametrize("has_it", [True, False])
def test_bfloat16_is_measured_where_the_processor_has_it_or_when_asked_for(has_it, monkeypatch, capsys):
    monkeypatch.setattr(options_module, "multiplies_bfloat16", lambda device: has_it)
    found = read_options(None, (2,), ["--device", "cpu"]).dtypes
    assert found == (tuple(DTYPES.values()) if has_it else (torch.float32,))
    assert ("no instructions for bfloat16" in capsys.readouterr().out) != has_it
    assert read_options(None, (2,), ["--device", "cpu", "--dtype", "bfloat16"]).dtypes == (torch.bfloat16,)


@pytest.mark.parametrize(("rate_of_bfloat16", "expected"), [(300.0, True), (80.0, True), (1.0, False)])
def test_a_processor_without_bfloat16_is_known_by_its_rate(rate_of_bfloat16, expected, monkeypatch):
    rates = {torch.float32: 100.0, torch.bfloat16: rate_of_bfloat16}
    monkeypatch.setattr(
        limits,
        "square_product",
        lambda device, dtype, size: SimpleNamespace(rate=lambda device: rates[dtype]),
    )
    assert limits.multiplies_bfloat16.__wrapped__(CPU) is expected


def test_the_options_of_a_gpu():
    given = ["--device", "cuda", "--dtype", "bfloat16", "--compile", "--batch", "50", "100", "--no-page"]
    options = read_options(None, (2,), given)
    assert options.device.type == "cuda" and options.batches == (50, 100) and options.page is None
    assert [str(variant) for variant in options.variants] == ["bfloat16", "bfloat16, compiled"]


def test_operations_are_counted_forward_and_backward():
    weight, x = torch.randn(3, 4, requires_grad=True), torch.randn(5, 4, requires_grad=True)
    assert matmul_flops(lambda: (x @ weight.T).sum().backward()) == 3 * 2 * 5 * 4 * 3


@pytest.mark.slow
def test_limits_are_measured(tmp_path):
    limits = measure_limits(CPU, tmp_path)
    assert min(asdict(limits).values()) > 0 and not list(tmp_path.iterdir())
    assert limits.page_cache_read > 0.9 * limits.disk_read
