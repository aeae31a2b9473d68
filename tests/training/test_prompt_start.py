"""Prompts that begin among the patches of their block."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from fsgr_model.clip.loading import Clip, load_clip
from fsgr_model.config.model_params import ModelParams
from fsgr_model.network.assembly import Assembly, build_captioner
from fsgr_model.network.tuned_tail import TunedTail
from fsgr_model.runtime.errors import UserError
from fsgr_model.runtime.row_store import RowStore
from fsgr_model.training.inputs import read_inputs
from fsgr_model.training.prompt_start import initialise_prompts_from_patches
from pipeline.train_xe import prepare_xe
from tests.worlds.captioner import assemble, parts_of, split_of, with_tail

CPU = torch.device("cpu")


@pytest.fixture
def one_prompt(model_params) -> ModelParams:
    return with_tail(model_params, prompts=1)


def clip_of(data) -> Clip:
    return load_clip(data / "clip", CPU)


def tail_of(assembly: Assembly) -> TunedTail:
    tail = assembly.captioner.tail
    assert isinstance(tail, TunedTail)
    return tail


def tokens_of(data, assembly: Assembly, image_ids: list[int]) -> torch.Tensor:
    store = RowStore(data / "features" / "train.h5", assembly.made_with["trunk"])
    return torch.from_numpy(store.rows(image_ids)).float()


def test_one_prompt_is_the_mean_patch_that_each_block_sees(tiny_data, one_prompt):
    """All 24 training images are looked at; the blocks are run by open_clip."""
    trunk = RowStore(tiny_data / "features" / "train.h5", clip_of(tiny_data).identity).identity
    # The cache was made at block 1; as far as this test goes it may stand before block 0.
    assembly = build_captioner(replace(parts_of(tiny_data), cut=0), one_prompt, 3)
    assembly = replace(assembly, made_with={"trunk": trunk})
    tail = tail_of(assembly)
    assert len(tail.frozen.blocks) == 2
    initialise_prompts_from_patches(assembly, split_of(tiny_data, "train"), seed=3)
    tokens_BTW = tokens_of(tiny_data, assembly, list(range(1, 25)))
    for number, block in enumerate(tail.frozen.blocks):
        mean_W = tokens_BTW[:, 1:].mean(dim=(0, 1))
        torch.testing.assert_close(tail.eval().prompts(number, 1)[0, 0], mean_W, atol=1e-5, rtol=1e-4)
        tokens_BTW = block.layer(tokens_BTW)


def test_many_prompts_are_the_means_of_the_patches_nearest_to_them(tiny_data, model_params):
    assembly = assemble(tiny_data, "train", with_tail(model_params, prompts=5), 3)
    initialise_prompts_from_patches(assembly, split_of(tiny_data, "train"), seed=3)
    prompts_PW = tail_of(assembly).eval().prompts(0, 1)[0]
    patch_MW = tokens_of(tiny_data, assembly, list(range(1, 25)))[:, 1:].flatten(0, 1)
    nearest_M = torch.cdist(patch_MW, prompts_PW).argmin(dim=1)
    assert nearest_M.unique().tolist() == [0, 1, 2, 3, 4]
    for number, prompt_W in enumerate(prompts_PW):
        torch.testing.assert_close(prompt_W, patch_MW[nearest_M == number].mean(0), atol=1e-4, rtol=1e-3)


def test_only_images_that_are_trained_on_are_looked_at(tiny_data, one_prompt):
    assembly = assemble(tiny_data, "train", one_prompt, 3)
    initialise_prompts_from_patches(assembly, split_of(tiny_data, "train").choose(4, 11), seed=3)
    ids = (np.random.default_rng(11).permutation(24)[:4] + 1).tolist()
    mean_W = tokens_of(tiny_data, assembly, ids)[:, 1:].mean(dim=(0, 1))
    torch.testing.assert_close(tail_of(assembly).eval().prompts(0, 1)[0, 0], mean_W, atol=1e-5, rtol=1e-4)


def test_training_begins_there_and_with_random_prompts_where_it_is_told_to(
    run_in, tiny_data, one_prompt, xe_params
):
    first = []
    for start in ("patches", "random"):
        params = with_tail(one_prompt, prompts=1, start=start)
        parts, inputs = read_inputs(tiny_data, CPU, codebook=True, labels=False)
        assembly = build_captioner(parts, params, 7)
        prepare_xe(assembly, parts, inputs, model=params, xe=xe_params, seed=7)
        first.append(tail_of(assembly).prompts.vectors_NPW.detach())
    run = run_in("by hand")
    assembly = assemble(run.data, "train", one_prompt, run.seed)
    assert torch.equal(first[1], tail_of(assembly).prompts.vectors_NPW)
    initialise_prompts_from_patches(assembly, split_of(run.data, "train"), run.seed)
    assert torch.equal(first[0], tail_of(assembly).prompts.vectors_NPW)
    assert not torch.equal(*first)


def test_more_prompts_than_patches_are_refused(tiny_data, model_params):
    assembly = assemble(tiny_data, "train", with_tail(model_params, prompts=10), 3)
    initialise_prompts_from_patches(assembly, split_of(tiny_data, "train").choose(2, 0), seed=3)
    with pytest.raises(UserError, match="10, from the patches of 1 training images, which have 9;"):
        initialise_prompts_from_patches(assembly, split_of(tiny_data, "train").choose(1, 0), seed=3)
