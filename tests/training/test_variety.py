"""A run says when its captions no longer tell images apart, and when training gained nothing."""

import pytest
import torch
from safetensors.torch import load_file

from fsgr_model.training.validation import Validation
from fsgr_model.training.variety import Variety
from pipeline.train_scst import train_scst
from pipeline.train_xe import train_xe

MANY = 200


def variety(distinct: int, times: int) -> Variety:
    return Variety(MANY, distinct, "a dog is running", times)


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


@pytest.fixture
def validated(monkeypatch):
    """Makes the validations of a run find these scores and varieties, one after the other."""

    def patch(found: list[tuple[float, Variety]]) -> None:
        coming = iter(found)

        def score(self, model, device):
            number, self.variety = next(coming)
            return number

        monkeypatch.setattr(Validation, "score", score)

    return patch


def warnings_of(capsys) -> list[str]:
    """All warnings but those about rewards, which are what chance makes of a network this small."""
    lines = capsys.readouterr().out.splitlines()
    return [line for line in lines if line.startswith("warning: ") and "the mean reward fell" not in line]


def test_variety_counts_captions_that_differ():
    assert Variety.of(["a cat", "a dog", "a cat", "a cat"]) == Variety(4, 2, "a cat", 3)


@pytest.mark.parametrize(("times", "warned"), [(30, False), (31, True)])
def test_one_caption_for_many_images_is_reported(times, warned):
    assert bool(variety(100, times).one_for_many()) == warned
    # Of few images a large share is a matter of chance.
    assert Variety(10, 3, "a dog", 8).one_for_many() is None


@pytest.mark.parametrize(("distinct", "warned"), [(70, False), (69, True)])
def test_fewer_captions_than_before_are_reported(distinct, warned):
    assert bool(variety(distinct, 3).fewer_than(100)) == warned
    assert Variety(10, 1, "a dog", 10).fewer_than(9) is None


def test_validation_counts_all_of_its_captions(runs, model_params, xe_params):
    run = runs(3e-3, model_params, xe_params)
    header, *rows = (line.split("\t") for line in run.curve.read_text().splitlines())
    counted = [int(row[header.index("val_distinct")]) for row in rows]
    assert all(1 <= count <= 8 for count in counted) and len(set(counted)) > 1


def test_scst_is_compared_with_the_network_before_it(
    runs, run_in, model_params, xe_params, scst_params, validated, capsys
):
    xe, two = runs(1e-3, model_params, xe_params), scst_params.model_copy(update={"epochs": 2})
    capsys.readouterr()
    validated([(0.2, variety(100, 20)), (0.3, variety(90, 20)), (0.4, variety(60, 20))])
    train_scst(run_in("scst", "train_scst"), xe.out, model_params, two)
    expected = "SCST epoch 2: 60 different captions of the 200 validation images, 100 before this training"
    (warning,) = warnings_of(capsys)
    assert warning.startswith(f"warning: {expected}")


def test_samples_much_worse_than_the_likeliest_captions_are_reported(
    runs, run_in, model_params, xe_params, scst_params, validated, capsys
):
    xe, one = runs(1e-3, model_params, xe_params), scst_params.model_copy(update={"epochs": 1})
    capsys.readouterr()
    # No sample of the half-trained network has so high a score.
    validated([(9.0, variety(100, 20)), (9.5, variety(100, 20))])
    train_scst(run_in("unsure", "train_scst"), xe.out, model_params, one)
    (warning,) = warnings_of(capsys)
    assert "the likeliest captions had 9 before this training: the network was unsure" in warning
    validated([(0.0, variety(100, 20)), (0.1, variety(100, 20))])
    train_scst(run_in("sure", "train_scst"), xe.out, model_params, one)
    assert warnings_of(capsys) == []


def test_training_that_gains_nothing_says_so_and_keeps_the_weights(
    runs, run_in, model_params, xe_params, scst_params, validated, capsys
):
    xe = runs(1e-3, model_params, xe_params)
    capsys.readouterr()
    validated([(0.2, variety(100, 20)), (0.19, variety(100, 20)), (0.2, variety(100, 20))])
    scst = run_in("scst", "train_scst")
    train_scst(scst, xe.out, model_params, scst_params.model_copy(update={"epochs": 2}))
    assert warnings_of(capsys) == [
        "warning: SCST: no epoch scored above the network before it (validation CIDEr 0.2), so the weights "
        "that it began with are kept; change scst.epochs or its learning rate"
    ]
    before, after = (load_file(run.out / "model.safetensors") for run in (xe, scst))
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_xe_that_says_one_caption_of_many_images_is_told_after_its_warm_up(
    run_in, model_params, xe_params, validated, capsys
):
    validated([(0.0, variety(1, 200)), (0.1, variety(9, 100)), (0.2, variety(9, 100)), (0.3, variety(99, 9))])
    train_xe(run_in("xe"), 1e-3, model_params, xe_params)
    assert [line.split(":")[1] for line in warnings_of(capsys)] == [" XE epoch 2"]
