"""Which resume folder a run has: any change of what its result depends on leads to another one."""

import shutil
from dataclasses import replace

import pytest

from fsgr_model.config.training_params import ScheduleParams
from fsgr_model.datasets.normal_form import (
    LISTS,
    Dataset,
    read_captions,
    read_images,
    read_instances,
    write_dataset,
)
from fsgr_model.runtime.artifacts import load_json, save_json, write_checksum
from fsgr_model.training import run as run_module
from pipeline.train_scst import train_scst
from pipeline.train_xe import train_xe
from tests.worlds.captioner import ADAM, CONTRAST


class Reached(Exception):
    """Raised in place of training."""


@pytest.fixture
def key_of(monkeypatch, run_in, tiny_data, tmp_path, model_params, xe_params):
    """The key of XE training with some changes; data may be changed in a copy."""

    def reach(stage, key, world):
        raise Reached(key)

    monkeypatch.setattr(run_module, "shared_resume_point", reach)

    def key(change_data=None, lr=1e-3, run=None, model=None, xe=None) -> str:
        data = tmp_path / "changed"
        shutil.rmtree(data, ignore_errors=True)
        shutil.copytree(tiny_data, data)
        if change_data is not None:
            change_data(data)
        started = replace(run_in("run"), data=data, **(run or {}))
        model = model_params.model_copy(update=model or {})
        with pytest.raises(Reached) as reached:
            train_xe(started, lr, model, xe_params.model_copy(update=xe or {}))
        return str(reached.value)

    return key


def change_captions(data):
    folder = data / "dataset"
    captions = [caption for of_image in read_captions(folder).values() for caption in of_image]
    captions[0].tokens.append("cat")
    write_dataset(folder, Dataset(read_images(folder), captions, read_instances(folder), {}))


def change_pictures(data):
    images = load_json(data / "dataset" / "images.json")
    images[0]["sha256"] = "f" * 64
    save_json(data / "dataset" / "images.json", images)
    for name in LISTS:
        write_checksum(data / "dataset" / name)


@pytest.mark.parametrize(
    "changes",
    [
        {"change_data": change_captions},
        {"change_data": change_pictures},
        {"lr": 2e-3},
        {"run": {"seed": 8}},
        {"model": {"dropout": 0.2}},
        {"model": {"semantics": False}},
        {"xe": {"batch_size": 4}},
        {"xe": {"patience": 8}},
        {"run": {"optimiser": ADAM.model_copy(update={"name": "muon"})}},
        {"run": {"optimiser": ADAM.model_copy(update={"visual_lr_factor": 0.2})}},
        {"run": {"precision": "bf16"}},
        {"run": {"train_images": 5}},
        {"xe": {"schedule": ScheduleParams(warmup_epochs=1, decay=[])}},
        {"xe": {"shuffle_features": True}},
        {"xe": {"contrast": CONTRAST}},
        {"xe": {"max_length": 9}},
    ],
)
def test_a_changed_parameter_or_input_never_resumes(key_of, changes):
    assert key_of(**changes) != key_of()


def test_what_changes_no_result_does_resume(key_of):
    assert key_of(run={"save_minutes": 1.0}) == key_of()


def test_scst_from_other_weights_never_resumes(
    run_in, model_params, xe_params, scst_params, monkeypatch, tmp_path
):
    xe = run_in("xe")
    train_xe(xe, 1e-3, model_params, xe_params.model_copy(update={"epochs": 1}))
    other = run_in("other")
    train_xe(other, 2e-3, model_params, xe_params.model_copy(update={"epochs": 1}))
    keys = []

    def reach(stage, key, world):
        keys.append(key)
        raise Reached

    monkeypatch.setattr(run_module, "shared_resume_point", reach)
    for start_from in (xe.out, other.out, xe.out):
        with pytest.raises(Reached):
            train_scst(run_in("scst", "train_scst"), start_from, model_params, scst_params)
    assert keys[0] == keys[2] != keys[1]
