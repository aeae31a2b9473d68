"""The bench of a taken core: a step of every stage runs, and turns become paired ratios."""

from pathlib import Path

import pytest

from bench import demo_steps, shared_core
from bench.shared_core import Turns
from fsgr_model.config.params import load_params

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_a_step_of_every_stage_at_the_demos_sizes():
    params = load_params(ROOT / "params.yaml")
    made = demo_steps.works(params)
    assert tuple(made) == shared_core.STAGES
    for make in made.values():
        make()()


def test_turns_of_two_rules_become_paired_ratios():
    rules = {
        "libgomp": Turns([1.0, 2.0, 4.0], [4.0, 8.0, 16.0]),
        "ours": Turns([1.0, 2.0, 4.0], [2.0, 4.0, 8.0]),
    }
    page = shared_core.markdown({"train_xe": rules}, "a machine")
    row = next(line for line in page.splitlines() if "ours" in line)
    ratios = [cell.split()[0] for cell in row.split(" | ")[4:]]
    assert ratios == ["2.00", "1.00", "0.50"]
