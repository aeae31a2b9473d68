"""The table of learning rates, written out."""

import pytest

from fsgr_model.config.training_params import XeParams
from fsgr_model.training.schedule import CosineRates, describe_rates, rate_table


def params(**changes) -> XeParams:
    values = {"epochs": 14, "batch_size": 2, "patience": 5, "max_length": 9}
    return XeParams(**(values | changes))


def test_the_schedule_of_the_recipe():
    decay = [{"epoch": 7, "factor": 0.2}, {"epoch": 13, "factor": 0.04}]
    rates = rate_table(2e-4, params(schedule={"warmup_epochs": 3, "decay": decay}))
    expected = [0.25, 0.5, 0.75, 1, 1, 1, *[0.2] * 6, 0.04, 0.04]
    assert rates == pytest.approx([2e-4 * factor for factor in expected])


def test_no_epoch_has_rate_zero():
    assert all(rate > 0 for rate in rate_table(1e-3, params(schedule={"warmup_epochs": 14, "decay": []})))


def test_without_a_schedule_the_rate_stays_at_its_peak():
    assert rate_table(1e-3, params()) == [1e-3] * 14


def test_the_printed_table_names_every_epoch():
    text = describe_rates([1e-4, 2e-4, 2e-4, 2e-5])
    assert text.splitlines() == ["epoch   learning rate", "1       0.0001", "2-3     0.0002", "4       2e-05"]


def test_cosine_rates_rise_then_fall_to_zero():
    schedule = CosineRates(0.8, epochs=5, warmup_epochs=2)
    rates = [schedule(1 + step // 2, step % 2, 2) for step in range(11)]
    assert rates[:4] == pytest.approx([0.2, 0.4, 0.6, 0.8])
    assert rates[4] == pytest.approx(0.8)
    assert rates[7] == pytest.approx(0.4)
    assert rates[10] == pytest.approx(0)
