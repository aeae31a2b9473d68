"""A CLIP that several processes train is the one that a process trains."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from fsgr_model.clip.model_building import (
    build_model,
    build_preprocess,
    build_tokenizer,
    default_preprocessing,
)
from fsgr_model.clip.open_clip_api import open_clip
from fsgr_model.config.params import ClipTrainingParams, RuntimeParams
from fsgr_model.datasets.normal_form import read_captions, read_images
from fsgr_model.runtime.errors import UserError
from fsgr_model.runtime.resume import shared_resume_point
from fsgr_model.runtime.world import ALONE
from fsgr_model.training.clip_draws import ImagePatchDropout, draw_clip_by_image
from fsgr_model.training.clip_pairs import PairBatch, Pairs
from fsgr_model.training.clip_training import CompactEmbedding, Contrast, train_clip
from fsgr_model.training.image_draws import ImageDraws
from fsgr_model.training.optimiser import Optimiser
from fsgr_model.training.task import Step
from fsgr_model.training.together import sum_gradients, sum_numbers
from tests.training.test_processes import FLOATS, SIZES, compare
from tests.worlds.clip import noise_dataset, tiny_config
from tests.worlds.processes import in_processes

STEP = Step(seed=5, epoch=1, index=3)
CONFIG = tiny_config(pool_type="avg", patch_dropout=0.25)
CONFIGS = {"softmax": CONFIG, "sigmoid": {**CONFIG, "init_logit_bias": -3.0}}
# 8 pictures of 12: three processes have 2, 3 and 3. The last incomplete batch is left out.
PARAMS = ClipTrainingParams(
    epochs=20,
    batch_size=8,
    lr=3e-3,
    weight_decay=0.1,
    warmup_epochs=1,
    shift=0.1,
    gray_scale_prob=0.5,
    crop_area=0.6,
    mirror_prob=0.5,
    colour_jitter=0.2,
)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return noise_dataset(tmp_path_factory.mktemp("data") / "dataset")


def read_pairs(dataset, world, shared):
    """The training images; the first one has seven captions, the second one has one."""
    captions = read_captions(dataset)
    first, second = (record.image_id for record in read_images(dataset, "train")[:2])
    captions = {**captions, first: captions[first] * 3 + captions[first][:1], second: captions[second][:1]}
    preprocess = build_preprocess(default_preprocessing(CONFIG, {"resize_mode": "squash"}))
    runtime = RuntimeParams(workers=0, image_batch=2)
    images = read_images(dataset, "train")
    return Pairs(
        images, captions, preprocess, build_tokenizer(CONFIG), runtime=runtime, shared=shared, world=world
    )


def new_model(kind):
    torch.manual_seed(2)
    return build_model(CONFIGS[kind], "tiny")


class DoubleBatch(PairBatch):
    def to(self, device):
        plain = super().to(device)
        return replace(plain, image_BCHW=plain.image_BCHW.double())


def gradients(world, dataset, folder, kind, double):
    """The summed gradients and losses of three steps, of 5, 12 and 3 pictures."""
    pairs = read_pairs(dataset, world, folder / "pictures.h5")
    model = new_model(kind)
    embedding = CompactEmbedding(model, torch.unique(torch.cat(pairs.tokens)))
    task = Contrast(embedding, PARAMS, world)
    if double:
        model.double()
    task.draws = draw_clip_by_image(model)
    optimiser = Optimiser(model.train(), "muon", 1e-3, weight_decay=0)
    found = []
    for size in (5, 12, 3):
        group = pairs.epoch_groups(size, seed=3, epoch=1)[0]
        (batch,) = pairs.batches([world.share(group)])
        batch = (DoubleBatch if double else PairBatch)(**vars(batch)).to(torch.device("cpu"))
        task.draws.begin(STEP.image_keys(batch.image_ids))
        loss, _ = task.loss(model, batch, STEP)
        optimiser.clear_gradients()
        loss.backward()
        sum_gradients(optimiser.weights(), world)
        of_weights = [None if w.grad is None else w.grad.numpy() for w in optimiser.weights()]
        found.append((of_weights, sum_numbers({"loss": loss.item()}, world)))
    return found, []


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("kind", CONFIGS)
@pytest.mark.parametrize(("double", "tolerance"), FLOATS)
def test_gradients_do_not_know_how_many_processes(tmp_path, dataset, kind, size, double, tolerance):
    folders = [tmp_path / "of one", tmp_path / "of several"]
    for folder in folders:
        folder.mkdir()
    (one,) = in_processes(1, tmp_path / "1", gradients, dataset, folders[0], kind, double)
    for found in in_processes(size, tmp_path / "2", gradients, dataset, folders[1], kind, double):
        compare(one, found, tolerance)


def trained(world, dataset, key, lr, double):
    """The weights after 20 steps."""
    model, plain = new_model("softmax"), Pairs.batches
    if double:
        model.double()
        Pairs.batches = lambda pairs, groups: (DoubleBatch(**vars(b)) for b in plain(pairs, groups))
    torch.manual_seed(world.rank)
    with shared_resume_point("clip", key, world) as point:
        pairs = read_pairs(dataset, world, point.folder / "pictures.h5")
        train_clip(model, pairs, PARAMS.model_copy(update={"lr": lr}), point, save_minutes=60, world=world)
    return {name: weight.numpy() for name, weight in model.state_dict().items()}


def distance(found, weight, name):
    """Relative to the norm. Without the bias of an attention's keys, on which a softmax does not depend: its
    gradient is rounding, which Adam scales up.
    """
    if name.endswith("attn.in_proj_bias"):
        (query, _, value), (query_too, _, value_too) = np.split(found, 3), np.split(weight, 3)
        found, weight = np.concatenate((query, value)), np.concatenate((query_too, value_too))
    return np.linalg.norm(found - weight) / max(np.linalg.norm(weight), 1e-12)


def test_more_processes_than_pictures_of_a_step_are_refused(dataset):
    pairs, many = read_pairs(dataset, ALONE, None), SimpleNamespace(size=9)
    with pytest.raises(UserError, match="has 8 pictures for 9 processes; each needs one"):
        train_clip(new_model("softmax"), pairs, PARAMS, None, save_minutes=60, world=many)


# Muon makes the smallest directions of a gradient as long as the others, and with them its rounding.
@pytest.mark.parametrize(
    ("double", "lr", "tolerance"),
    [(True, 3e-3, 1e-10), pytest.param(False, 5e-4, 1e-5, marks=pytest.mark.slow)],
)
@pytest.mark.parametrize("size", SIZES)
def test_twenty_steps_give_the_same_weights(tmp_path, monkeypatch, dataset, size, double, lr, tolerance):
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    (one,) = in_processes(1, tmp_path / "1", trained, dataset, "one", lr, double)
    for found in in_processes(size, tmp_path / "2", trained, dataset, "several", lr, double):
        assert found.keys() == one.keys()
        far = {name: distance(found[name], weight, name) for name, weight in one.items()}
        assert max(far.values()) <= tolerance, sorted(far.items(), key=lambda item: -item[1])[:5]
    assert not list((tmp_path / ".resume").iterdir())


def pictures(world, dataset, folder):
    pairs = read_pairs(dataset, world, folder and folder / "pictures.h5")
    return pairs.pictures.tensors(pairs.image_ids[::-1]).numpy()


def test_processes_read_the_pictures_together(tmp_path, dataset):
    (alone,) = in_processes(1, tmp_path / "1", pictures, dataset, None)
    for found in in_processes(2, tmp_path / "2", pictures, dataset, tmp_path):
        assert np.array_equal(alone, found)


def test_patches_are_dropped_by_image_and_the_class_token_stays():
    draws = ImageDraws()
    layer = ImagePatchDropout(open_clip.transformer.PatchDropout(0.25), draws)
    x_BTW = torch.arange(17.0).expand(200, 17)[..., None]
    draws.begin(STEP.image_keys(range(200)))
    kept_BT = layer(x_BTW)[..., 0]
    assert kept_BT.shape == (200, 13) and (kept_BT[:, 0] == 0).all()
    assert all(len(set(row.tolist())) == 13 for row in kept_BT)
    # Each of 16 patches stays in 12 of 16 images.
    share_T = torch.stack([(kept_BT == patch).any(dim=1).float().mean() for patch in range(1, 17)])
    assert (share_T - 0.75).abs().max() < 0.12
    draws.begin(STEP.image_keys([7]))
    assert torch.equal(layer(x_BTW[:1])[..., 0], kept_BT[7:8])
    assert layer.eval()(x_BTW) is x_BTW


class DropPath(nn.Module):
    """As timm's, by its name and its attribute."""

    drop_prob = 0.1


def test_layers_that_draw_by_place_are_refused():
    model = nn.ModuleDict({"block": DropPath()})
    with pytest.raises(UserError, match=r"random layer block \(DropPath 0.1\) of timm"):
        draw_clip_by_image(model)
    model["block"].drop_prob = 0.0
    draw_clip_by_image(model)


def of_some_layout(world):
    numbers = torch.arange(6.0).view(2, 3)
    return world.sum(numbers if world.rank == 0 else numbers.T.contiguous().T).tolist()


def test_sums_go_by_place_however_a_process_lays_its_numbers_out(tmp_path):
    """Gradients of products with one picture are transposed."""
    for found in in_processes(2, tmp_path / "2", of_some_layout):
        assert found == [[0.0, 2.0, 4.0], [6.0, 8.0, 10.0]]
