"""The gradients and weights of a batch do not know how many processes shared it."""

import os
import signal
import time
from dataclasses import replace
from datetime import timedelta

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from fsgr_model.config.model_params import PrototypeParams
from fsgr_model.config.training_params import ContrastParams
from fsgr_model.network.assembly import build_captioner
from fsgr_model.runtime.errors import UserError
from fsgr_model.runtime.stopping import Stopped
from fsgr_model.runtime.world import LOST, OthersLost
from fsgr_model.training.batches import Batch, CaptionedImages
from fsgr_model.training.image_draws import ImageDraws, ImageDropout, draw_by_image
from fsgr_model.training.inputs import Inputs, label_maps
from fsgr_model.training.loop import Loop
from fsgr_model.training.optimiser import Optimiser
from fsgr_model.training.scst import SelfCritical
from fsgr_model.training.task import Step
from fsgr_model.training.together import check_weights_agree, sum_gradients, sum_numbers
from pipeline.train_scst import train_scst
from pipeline.train_xe import prepare_xe, train_xe
from tests.worlds.captioner import (
    ALIGNMENT,
    images_of,
    parts_of,
    reward_of,
    split_of,
    with_tail,
)
from tests.worlds.processes import in_processes

STEP = Step(seed=5, epoch=5, index=3)
SIZES = [2, pytest.param(3, marks=pytest.mark.slow)]
FLOATS = [(True, 1e-10), pytest.param(False, 1e-5, marks=pytest.mark.slow)]
# The third has more processes than images.
BATCHES = [[3, 8, 1, 12, 5], [2, 4, 6, 7], [9]]


class DoubleBatch(Batch):
    def to(self, device):
        plain = super().to(device)
        return replace(plain, tokens_BTW=plain.tokens_BTW.double())


def shares(images, world, group, double):
    """This process's share of a batch in which one image has 1 caption and another one 7."""
    batch = images.batch(list(world.share(group)))
    kind = DoubleBatch if double else Batch
    return kind(batch.image_ids, batch.tokens_BTW, batch.caption_BSL, batch.label_BG).to(torch.device("cpu"))


def images_with_odd_captions(data, assembly, labels):
    images = images_of(data, "train", assembly, labels)
    captions = {image_id: list(images.captions[image_id]) for image_id in images.image_ids}
    captions[8] = captions[8][:1]
    captions[9] = captions[9][:1]
    captions[12] = captions[12] * 2 + captions[12][:1]
    return CaptionedImages(images.store, captions, labels=labels)


def gradients(world, data, model_params, xe_params, what, double):
    """The summed gradients and numbers of three batches."""
    parts = parts_of(data)
    assembly = build_captioner(parts, model_params, 3)
    assembly.captioner.train()
    labels = label_maps(data, parts)
    images = images_with_odd_captions(data, assembly, labels)
    if what == "scst":
        task = SelfCritical(reward_of(data, assembly.vocabulary), num_samples=3, max_length=8, world=world)
        assembly.captioner.eval()
    else:
        inputs = Inputs(split_of(data, "train"), split_of(data, "val"), labels, "", "")
        task = prepare_xe(assembly, parts, inputs, model=model_params, xe=xe_params, seed=7, world=world)
    if double:
        assembly.captioner.double()
        task.heads.double()
        for auxiliary in getattr(task, "auxiliaries", []):
            if hasattr(auxiliary, "tower"):
                auxiliary.tower = in_double(auxiliary.tower)
    task.draws = draw_by_image(assembly.captioner)
    optimiser = Optimiser(assembly.captioner, "adam", 1e-3, weight_decay=0, heads=task.heads)
    found = []
    for group in BATCHES:
        batch = shares(images, world, group, double)
        task.draws.begin(STEP.image_keys(batch.image_ids))
        loss, report = task.loss(assembly.captioner, batch, STEP)
        optimiser.clear_gradients()
        loss.backward()
        sum_gradients(optimiser.weights(), world)
        numbers = sum_numbers({"loss": loss.item(), **report}, world)
        of_weights = [None if w.grad is None else w.grad.numpy() for w in optimiser.weights()]
        found.append((of_weights, numbers))
    return found, kept_words(task.prototypes) if what == "memory" else []


def in_double(tower):
    def states(captions):
        found = tower(captions)
        return found._replace(caption_BE=found.caption_BE.double(), token_BCE=found.token_BCE.double())

    return states


def kept_words(prototypes):
    """Of each layer the keys and values in the banks, and the prototypes made of them."""
    rows = [x for layer in range(len(prototypes.memories)) for x in prototypes.banks.rows(layer)]
    return [x.numpy() for x in (*rows, *(x for m in prototypes.memories for x in (m.key_MD, m.value_MD)))]


def compare(one, several, tolerance):
    for (of_one, numbers), (of_several, numbers_too) in zip(one[0], several[0], strict=True):
        assert [g is None for g in of_one] == [g is None for g in of_several]
        joined = [
            torch.cat([torch.from_numpy(g).flatten() for g in of if g is not None])
            for of in (of_one, of_several)
        ]
        assert joined[0].norm() > 0
        assert (joined[0] - joined[1]).norm() <= tolerance * joined[0].norm()
        assert numbers == pytest.approx(numbers_too, rel=1e-5)
    for kept, kept_too in zip(one[1], several[1], strict=True):
        # The banks have 11 bits.
        assert kept.shape == kept_too.shape
        assert abs(kept - kept_too).max() < 2e-3 * abs(kept).max()


def kind(name, model_params, xe_params):
    model = {
        "tail": with_tail(model_params, adapters=True, prompts=2),
        "memory": model_params.model_copy(
            update={"memory": PrototypeParams(kind="prototypes", size=4, window=2, refresh=1, neighbours=2)}
        ),
    }.get(name, model_params)
    xe = {
        "contrast": xe_params.model_copy(update={"contrast": ContrastParams(weight=0.25, anchors=20)}),
        "alignment": xe_params.model_copy(update={"alignment": ALIGNMENT, "epochs": 7}),
    }.get(name, xe_params)
    return model, xe


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(
    "what", ["xe", "scst", "contrast", "alignment", pytest.param("tail", marks=pytest.mark.slow), "memory"]
)
@pytest.mark.parametrize(("double", "tolerance"), FLOATS)
def test_gradients_do_not_know_how_many_processes(
    tmp_path, tiny_data, model_params, xe_params, what, size, double, tolerance
):
    model, xe = kind(what, model_params, xe_params)
    given = (tiny_data, model, xe, what, double)
    (one,) = in_processes(1, tmp_path / "1", gradients, *given)
    several = in_processes(size, tmp_path / "several", gradients, *given)
    for found in several:
        compare(one, found, tolerance)


def trained(world, run, train, *given):
    """Weights, history, and what is left of the resume point."""
    torch.manual_seed(world.rank)
    train(replace(run, world=world), *given)
    world.wait()
    return {name: w.numpy() for name, w in load_file(run.out / "model.safetensors").items()}, read_curve(run)


def read_curve(run):
    header, *rows = (line.split("\t") for line in run.curve.read_text().splitlines())
    return header, np.array([[float(x or 0) for x in row] for row in rows])


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("what", ["xe", pytest.param("scst", marks=pytest.mark.slow)])
def test_twenty_steps_give_the_same_weights(
    run_in, tmp_path, model_params, xe_params, scst_params, size, what
):
    """Batches of 5 and 6 images, of which the last has 4 and 6; validation, history and best epoch too."""
    found = []
    for number in (1, size):
        if what == "xe":
            run = run_in(f"{what}{number}")
            given = (train_xe, 1e-3, model_params, xe_params.model_copy(update={"epochs": 4}))
        else:
            start = run_in("start")
            if number == 1:
                train_xe(start, 1e-3, model_params, xe_params)
            run = run_in(f"{what}{number}", "train_scst")
            given = (train_scst, start.out, model_params, scst_params.model_copy(update={"epochs": 5}))
        found.append(in_processes(number, tmp_path / f"{number}", trained, run, *given)[-1])
        assert not list((run.out.parent / ".resume").iterdir())
    (weights, (names, curve)), (weights_too, (names_too, curve_too)) = found
    assert names == names_too
    assert curve == pytest.approx(curve_too, rel=1e-4, abs=1e-5)
    assert weights.keys() == weights_too.keys()
    for name in weights:
        # A softmax does not depend on the bias of its keys: its gradient is rounding, which Adam scales up.
        if not name.endswith("attention.key.bias"):
            difference = np.linalg.norm(weights[name] - weights_too[name])
            assert difference <= 1e-5 * np.linalg.norm(weights[name]), name


def stopped(world, run, train, *given):
    """Rank 1 gets a signal after the third step: how each process ends."""
    plain, taken = Loop._train_step, []

    def step(self, batch):
        plain(self, batch)
        taken.append(batch)
        if world.rank == 1 and len(taken) == 3:
            os.kill(os.getpid(), signal.SIGTERM)

    Loop._train_step = step
    with pytest.raises(Stopped) as stop:
        train(replace(run, world=world), *given)
    return len(taken), stop.value.signal_name, stop.value.kept


@pytest.mark.slow
def test_a_signal_to_one_stops_all_after_the_same_step_and_another_number_goes_on(
    run_in, tmp_path, model_params, xe_params
):
    whole = run_in("whole")
    given = (train_xe, 1e-3, model_params, xe_params)
    (expected,) = in_processes(1, tmp_path / "1", trained, whole, *given)
    run = run_in("stopped")
    ends = in_processes(2, tmp_path / "2", stopped, run, *given)
    assert [(steps, name) for steps, name, _ in ends] == [(3, "a signal to another process"), (3, "SIGTERM")]
    assert all("saved XE epoch 1/3, step 3 in " in kept for _, _, kept in ends)
    (found,) = in_processes(1, tmp_path / "again", trained, run, *given)
    assert found[1][1] == pytest.approx(expected[1][1], rel=1e-4, abs=1e-5)


def lonely(world, run, train, *given):
    """Rank 1 is gone in the third step: what becomes of rank 0."""
    plain, taken = Loop._train_step, []

    def step(self, batch):
        if len(taken) == 2 and world.rank == 1:
            raise Gone
        plain(self, batch)
        taken.append(batch)

    Loop._train_step = step
    start = time.monotonic()
    try:
        train(replace(run, world=world), *given)
    except Gone:
        return None
    except OthersLost as lost:
        kept = list(run.out.parent.glob(".resume/*/state*"))
        return lost.message, lost.code, time.monotonic() - start, kept
    raise AssertionError("it went on alone")


class Gone(Exception):
    """Ends a process as a kill would, as far as the others can see."""


def test_who_is_left_alone_ends_within_seconds(run_in, tmp_path, model_params, xe_params):
    given = (train_xe, 1e-3, model_params, xe_params)
    (message, code, seconds, kept), _ = in_processes(2, tmp_path / "2", lonely, run_in("lost"), *given)
    assert "process 0 lost the others in XE epoch 1/3, step 3: process 1 (" in message
    assert message.endswith(") ended")
    assert code == LOST
    assert seconds < 20
    assert len(kept) == 1


def late(world):
    """Rank 0 comes long after the collectives of the others have given up."""
    if world.rank == 0:
        time.sleep(0.6)
    world.wait_for_first("the lock")


def test_all_wait_for_the_first_process_however_long(tmp_path):
    in_processes(2, tmp_path / "2", late, patience=timedelta(seconds=0.3))


def silent(world):
    """Rank 1 hangs: what rank 0 says."""
    if world.rank == 1:
        time.sleep(5.0)
        return None
    with pytest.raises(OthersLost) as lost:
        world.wait()
    return lost.value.reason, world.places[1], lost.value.is_first


def test_a_process_that_hangs_is_named(tmp_path):
    (reason, place, is_first), _ = in_processes(2, tmp_path / "2", silent, patience=timedelta(seconds=1))
    assert reason == f"{place} did not answer for 1 s"
    assert is_first


def exchanged(world):
    weights = [torch.nn.Parameter(torch.ones(shape)) for shape in ((3, 5), (7,), (2, 2))]
    for weight in weights[:2]:
        weight.grad = torch.ones_like(weight)
    sum_gradients(weights, world)
    world.gather(torch.ones(world.rank + 1, 4))
    return world.bytes_given(), world.bytes_given()


def test_bytes_are_counted_by_kind_and_gradients_weigh_what_is_trained(tmp_path):
    for found, after in in_processes(2, tmp_path / "2", exchanged):
        # Whether each of three weights has a gradient, and how many rows there are, as int64; two rows of 4.
        assert found == {"counts": 3 * 8 + 8, "gradients": (15 + 7) * 4, "gathered": 2 * 4 * 4}
        assert after == {}


def given(world):
    weight = torch.nn.Parameter(torch.full((2, 3), float(world.rank)).T)
    world.give([weight], 1)
    return weight.detach().numpy()


def test_all_get_the_weights_of_one(tmp_path):
    for found in in_processes(2, tmp_path / "2", given):
        assert (found == 1).all()


def weights_that_differ(world):
    with pytest.raises(UserError, match="weight and 0 further weights differ between processes"):
        check_weights_agree({"weight": torch.full((3,), float(world.rank)), "same": torch.ones(2)}, world)


def test_weights_that_differ_are_noticed(tmp_path):
    in_processes(2, tmp_path / "2", weights_that_differ)


@pytest.mark.parametrize("p", [0.1, 0.5])
def test_dropout_by_image_drops_the_share_it_says_and_keeps_the_mean(p):
    draws = ImageDraws()
    layer = ImageDropout(p, draws)
    ones_BD = torch.ones(40, 2500)
    draws.begin(STEP.image_keys(range(40)))
    first_BD, second_BD = layer(ones_BD), layer(ones_BD)
    for found_BD in (first_BD, second_BD):
        share_B = (found_BD == 0).float().mean(dim=1)
        assert abs(share_B.mean() - p) < 0.006
        assert share_B.std() < 2.0 * (p * (1 - p) / 2500) ** 0.5
        assert abs(found_BD.mean() - 1) < 0.01
    both = ((first_BD == 0) & (second_BD == 0)).float().mean()
    assert abs(both - p * p) < 0.006
    neighbours = (first_BD[1:] == 0) & (first_BD[:-1] == 0)
    assert abs(neighbours.float().mean() - p * p) < 0.006


def test_exponential_numbers_of_images_are_exponential():
    draws = ImageDraws()
    draws.begin(STEP.image_keys(range(100)))
    x = np.sort(draws.exponential(1000).numpy().ravel().astype(np.float64))
    expected = 1 - np.exp(-x)
    distance = abs(expected - np.arange(len(x)) / len(x)).max()
    assert x[0] > 0
    # Kolmogorov and Smirnov: 1.95 / sqrt(n) is passed by 1 of 1,000 true samples.
    assert distance < 1.95 / len(x) ** 0.5
