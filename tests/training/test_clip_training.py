import itertools
import json
import math
import os
import shutil
import signal
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from fsgr_model.clip.loading import DESCRIPTION
from fsgr_model.clip.model_building import (
    build_model,
    build_preprocess,
    build_tokenizer,
    default_preprocessing,
)
from fsgr_model.clip.open_clip_api import open_clip
from fsgr_model.clip.split import Tail, Trunk
from fsgr_model.clip.text_tower import text_embedding
from fsgr_model.clip.towers import image_and_patches
from fsgr_model.config.params import ClipTrainingParams, RuntimeParams
from fsgr_model.datasets.normal_form import read_captions, read_images
from fsgr_model.runtime.artifacts import load_json
from fsgr_model.runtime.errors import UserError
from fsgr_model.runtime.resume import resume_point
from fsgr_model.runtime.stopping import Stopped
from fsgr_model.training.clip_pairs import Pairs, cut_phrase, function_tokens, ids_as_text, pairs_key
from fsgr_model.training.clip_training import (
    CompactEmbedding,
    batch_loss,
    patch_scores,
    phrase_loss,
    retrieval_accuracy,
    sigmoid_phrase_loss,
    train_clip,
)
from fsgr_model.training.loop import Loop
from pipeline.clip import prepare_clip
from tests.worlds.clip import noise_dataset, tiny_config

CONFIG = tiny_config(pool_type="avg", patch_dropout=0.25)
PARAMS = ClipTrainingParams(epochs=3, batch_size=8, lr=3e-3, weight_decay=0.1, warmup_epochs=1)


@pytest.fixture(autouse=True)
def root(tmp_path, monkeypatch):
    monkeypatch.setenv("DVC_ROOT", str(tmp_path / "root"))


@pytest.fixture
def pairs(dataset):
    return read_pairs(dataset, "train")


def read_pairs(dataset, split):
    preprocess = build_preprocess(default_preprocessing(CONFIG, {"resize_mode": "squash"}))
    images, captions = read_images(dataset, split), read_captions(dataset)
    return Pairs(images, captions, preprocess, build_tokenizer(CONFIG), runtime=RuntimeParams(workers=0))


def train(model, pairs, params, key):
    with resume_point("clip", key) as point:
        train_clip(model, pairs, params, point, save_minutes=60)


def batches_of(pairs, size, *, seed, epoch):
    return list(pairs.batches(pairs.epoch_groups(size, seed=seed, epoch=epoch)))


def new_model():
    torch.manual_seed(2)
    return build_model(CONFIG, "tiny")


def stop_in_step(number, how):
    """`Loop._train_step` that calls `how` once it has taken so many steps."""
    plain, taken = Loop._train_step, []

    def step(self, batch):
        plain(self, batch)
        taken.append(batch)
        if len(taken) == number:
            how()

    return step


def send(number):
    return lambda: os.kill(os.getpid(), number)


def vanish():
    raise KeyboardInterrupt


CHANGES = {"shift": 0.1, "gray_scale_prob": 0.5, "crop_area": 0.5, "mirror_prob": 0.5, "colour_jitter": 0.3}
INTERRUPTED = PARAMS.model_copy(update={"batch_size": 4, **CHANGES})


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Trained without an interruption."""
    model, root = new_model(), tmp_path_factory.mktemp("whole")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DVC_ROOT", str(root))
        train(model, read_pairs(noise_dataset(root / "dataset"), "train"), INTERRUPTED, "whole")
    return model


# Steps of four pictures, three an epoch: within an epoch, at the end of one, at the very end.
@pytest.mark.parametrize("steps", [4, 6, 9])
@pytest.mark.parametrize("how", [send(signal.SIGTERM), send(signal.SIGINT), vanish])
def test_an_interrupted_training_ends_as_if_it_had_not_been(whole, pairs, monkeypatch, steps, how):
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt) as stopped:
        patch.setattr(Loop, "_train_step", stop_in_step(steps, how))
        train(new_model(), pairs, INTERRUPTED, "resumed")
    if how is not vanish:
        assert isinstance(stopped.value, Stopped)
        assert f"saved CLIP epoch {(steps - 1) // 3 + 1}/3, step {(steps - 1) % 3 + 1} in " in str(
            stopped.value
        )
    resumed = new_model()
    torch.manual_seed(99)
    train(resumed, pairs, INTERRUPTED, "resumed")
    for name, value in whole.state_dict().items():
        assert torch.equal(resumed.state_dict()[name], value), name


def test_another_key_never_resumes(pairs, monkeypatch):
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Loop, "_train_step", stop_in_step(2, vanish))
        train(new_model(), pairs, PARAMS, "one")
    plain, taken = Loop._train_step, []
    monkeypatch.setattr(
        Loop, "_train_step", lambda self, batch: taken.append(self.progress.epoch) or plain(self, batch)
    )
    train(new_model(), pairs, PARAMS, "other")
    assert taken == [1, 2, 3]


@pytest.mark.slow
def test_it_learns(pairs):
    (batch,) = batches_of(pairs, 12, seed=0, epoch=1)
    losses = []
    for params in (PARAMS, PARAMS.model_copy(update={"epochs": 150, "batch_size": 12})):
        model = new_model()
        train(model, pairs, params, str(params.epochs))
        embedding = CompactEmbedding(model, torch.unique(torch.cat(pairs.tokens)))
        losses.append(batch_loss(model, embedding, batch.image_BCHW.float(), batch).item())
        embedding.restore()
    assert losses[1] < 0.75 * losses[0]
    assert retrieval_accuracy(model, pairs) > 0.5


def test_only_the_training_split_is_read(dataset):
    for record in read_images(dataset):
        if record.split != "train":
            Path(record.path).unlink()
    assert len(read_pairs(dataset, "train")) == 12


@pytest.mark.parametrize(
    ("apart", "trained_on"),
    [(False, "12 training images"), (True, "12 pictures of its own")],
)
def test_pictures_for_clip_alone_take_the_place_of_the_training_split(dataset, tmp_path, apart, trained_on):
    if apart:
        shutil.copytree(dataset, tmp_path / "copy")
        (tmp_path / "copy").rename(dataset / "pretraining")
    config = tmp_path / "tiny.json"
    config.write_text(json.dumps(CONFIG), encoding="utf-8")
    params = PARAMS.model_copy(update={"epochs": 1, "seed": 3})
    out = tmp_path / "clip"
    prepare_clip(
        str(config),
        pretrained="demo",
        resize_mode="squash",
        preprocess_as=None,
        training=params,
        dataset=dataset,
        runtime=RuntimeParams(workers=0),
        out=out,
    )
    assert load_json(out / DESCRIPTION)["origin"] == {"trained_on": trained_on, "seed": 3}


def test_small_table_has_the_gradients_of_the_large_one(pairs):
    (batch,) = batches_of(pairs, 12, seed=0, epoch=1)
    used = torch.unique(torch.cat([batch.caption_BC, batch.phrase_BC]))
    gradients = []
    for rows in (torch.arange(49408), used):
        model = new_model().eval()
        embedding = CompactEmbedding(model, rows)
        batch_loss(model, embedding, batch.image_BCHW.float(), batch).backward()
        gradients.append({name: parameter.grad for name, parameter in model.named_parameters()})
    large, small = gradients
    large["token_embedding.weight"] = large["token_embedding.weight"][used]
    for name, gradient in large.items():
        torch.testing.assert_close(small[name], gradient, msg=name)


def test_trained_rows_return_to_the_large_table():
    model = new_model()
    start = model.token_embedding.weight.detach().clone()
    used = torch.tensor([0, 7, 49406, 49407])
    embedding = CompactEmbedding(model, used)
    assert embedding.number(torch.tensor([[49406, 7, 49407, 0]])).tolist() == [[2, 1, 3, 0]]
    with torch.no_grad():
        model.token_embedding.weight += 1
    embedding.restore()
    start[used] += 1
    assert torch.equal(model.token_embedding.weight, start)


def test_every_image_comes_once_an_epoch_with_one_of_its_captions(pairs):
    steps = batches_of(pairs, 4, seed=1, epoch=1)
    taken = [image_id for step in steps for image_id in step.image_ids]
    assert sorted(taken) == pairs.image_ids and taken != pairs.image_ids
    for step in steps:
        for image_id, tokens in zip(step.image_ids, step.caption_BC, strict=True):
            captions = pairs.tokens[pairs.image_ids.index(image_id)]
            assert any(torch.equal(tokens, caption) for caption in captions)
    again = batches_of(pairs, 4, seed=1, epoch=1)
    for one, two in zip(steps, again, strict=True):
        assert one.image_ids == two.image_ids
        assert torch.equal(one.caption_BC, two.caption_BC) and torch.equal(one.phrase_BC, two.phrase_BC)
    other = batches_of(pairs, 4, seed=1, epoch=2)
    assert [step.image_ids for step in other] != [step.image_ids for step in steps]


def test_a_phrase_is_a_run_of_words_between_content_words():
    tokenizer = build_tokenizer(CONFIG)
    (caption,) = tokenizer(["a red cat on green grass."])
    red, cat, on, green, grass = caption[2:7].tolist()
    runs = [[red], [red, cat], [cat], [cat, on, green], [green], [green, grass], [grass]]
    function_words = function_tokens(tokenizer)
    draw = np.random.default_rng(0)
    seen = set()
    for _ in range(300):
        phrase = cut_phrase(caption, function_words, draw).tolist()
        end = phrase.index(49407)
        assert phrase[0] == 49406
        assert phrase[1:end] in runs
        assert set(phrase[end + 1 :]) <= {0}
        seen.add(tuple(phrase))
    assert len(seen) == len(runs)


@pytest.mark.parametrize("text", ["", "word " * 40])
def test_phrases_of_extreme_captions(text):
    (caption,) = build_tokenizer(CONFIG)([text])
    assert cut_phrase(caption, set(), np.random.default_rng(0)).tolist().count(49407) == 1


def test_a_caption_of_function_words_is_its_own_phrase():
    tokenizer = build_tokenizer(CONFIG)
    (caption,) = tokenizer(["on the."])
    assert torch.equal(cut_phrase(caption, function_tokens(tokenizer), np.random.default_rng(0)), caption)


def test_who_says_a_phrase(pairs):
    tokenizer = build_tokenizer(CONFIG)
    pairs.said = [
        "".join(map(ids_as_text, tokenizer(texts))) for texts in (["a red cat", "two dogs"], ["red"])
    ]
    phrases = list(tokenizer(["red cat", "red", "cat two", "dogs"]))
    assert pairs.said_by(np.array([0, 1]), phrases).tolist() == [
        [True, True, False, True],
        [False, True, False, False],
    ]


def test_every_image_says_its_own_phrase(pairs):
    for step in batches_of(pairs, 4, seed=1, epoch=1):
        assert step.said_BB.diagonal().all()


@pytest.mark.parametrize("text", [None, {}, {"pool_type": "last"}, {"no_causal_mask": True}])
def test_text_embedding_is_open_clips(pairs, text):
    """`text`: what is changed in CustomTextCLIP's tower; None: CLIP itself. The last two are read whole."""
    torch.manual_seed(2)
    custom = {} if text is None else {"custom_text": True, "text_cfg": {**CONFIG["text_cfg"], **text}}
    model = build_model({**CONFIG, **custom}, "tiny")
    tokens_BC = torch.stack([tokens[0] for tokens in pairs.tokens])
    assert (tokens_BC[:, -1] == 0).all(), "there is padding to be left out"
    found, wanted = text_embedding(model, tokens_BC), model.encode_text(tokens_BC, normalize=True)
    torch.testing.assert_close(found, wanted)
    weights = [w for name, w in model.named_parameters() if "visual" not in name and "logit" not in name]
    for a, b in zip(
        *(torch.autograd.grad(embedding[:, 0].sum(), weights) for embedding in (found, wanted)), strict=True
    ):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("changes", [{}, {"pool_type": "tok"}, {"final_ln_after_pool": True}])
def test_image_and_patches_are_those_of_the_pipeline(pairs, changes):
    torch.manual_seed(2)
    model = build_model(tiny_config(**{"pool_type": "avg"} | changes), "tiny").eval()
    images = pairs.pictures.tensors(pairs.image_ids[:3]).float()
    with torch.no_grad():
        image_BE, patch_BGE = image_and_patches(model, images)
        wanted = model.encode_image(images, normalize=True)
        aligned_BGE = Tail(model, 1, "plain").aligned(Trunk(model, 1)(images))
    torch.testing.assert_close(image_BE, wanted)
    torch.testing.assert_close(patch_BGE, F.normalize(aligned_BGE, dim=-1))


def test_patch_scores_against_a_plain_loop():
    torch.manual_seed(0)
    patch_BGE, phrase_BE = (F.normalize(torch.randn(shape), dim=-1) for shape in ((3, 5, 8), (3, 8)))
    found = patch_scores(patch_BGE, phrase_BE)
    for image, phrase in itertools.product(range(3), range(3)):
        cosines = [float(patch @ phrase_BE[phrase]) for patch in patch_BGE[image]]
        weights = [math.exp(20 * cosine) for cosine in cosines]
        wanted = sum(w * c for w, c in zip(weights, cosines, strict=True)) / sum(weights)
        assert found[image, phrase].item() == pytest.approx(wanted, abs=1e-5)


def test_phrase_loss_takes_no_said_phrase_for_a_negative():
    torch.manual_seed(0)
    logits_BB = torch.randn(4, 4)
    said_BB = torch.eye(4, dtype=torch.bool)
    plain = phrase_loss(logits_BB, said_BB)
    own_B = torch.arange(4)
    wanted = (F.cross_entropy(logits_BB, own_B) + F.cross_entropy(logits_BB.T, own_B)) / 2
    torch.testing.assert_close(plain, wanted)
    said_BB[0, 2] = True
    loud_BB = logits_BB.clone()
    loud_BB[0, 2] = 50
    torch.testing.assert_close(phrase_loss(loud_BB, said_BB), phrase_loss(logits_BB, said_BB))
    assert phrase_loss(loud_BB, torch.eye(4, dtype=torch.bool)) > plain + 10


def test_a_sigmoid_takes_every_pair_by_itself():
    torch.manual_seed(0)
    logits_BB, said_BB = torch.randn(4, 4), torch.eye(4, dtype=torch.bool)
    said_BB[0, 2] = True
    pairs = [(i, j) for i, j in itertools.product(range(4), range(4)) if (i, j) != (0, 2)]
    signs = [1 if i == j else -1 for i, j in pairs]
    logits = [logits_BB[i, j].item() - 0.5 for i, j in pairs]
    wanted = sum(math.log1p(math.exp(-sign * z)) for sign, z in zip(signs, logits, strict=True)) / 4
    found = sigmoid_phrase_loss(logits_BB, said_BB, torch.tensor(-0.5))
    assert found.item() == pytest.approx(wanted, rel=1e-5)


def test_a_model_with_a_bias_is_trained_by_it(pairs):
    """The three losses of it are open_clip's for SigLIP where each phrase is its own caption alone."""
    (batch,) = batches_of(pairs, 12, seed=0, epoch=1)
    batch = replace(batch, said_BB=torch.eye(12, dtype=torch.bool))
    torch.manual_seed(2)
    model = build_model({**CONFIG, "init_logit_bias": -3.0}, "tiny").eval()
    embedding = CompactEmbedding(model, torch.arange(49408))
    loss = batch_loss(model, embedding, batch.image_BCHW.float(), batch)
    image_BE, patch_BGE = image_and_patches(model, batch.image_BCHW.float())
    texts = [text_embedding(model, text) for text in (batch.caption_BC, batch.phrase_BC)]
    scale = model.logit_scale.exp()
    siglip = open_clip.loss.SigLipLoss()
    whole = [siglip(image_BE, text_BE, scale, model.logit_bias) for text_BE in texts]
    patches = sigmoid_phrase_loss(scale * patch_scores(patch_BGE, texts[1]), batch.said_BB, model.logit_bias)
    torch.testing.assert_close(loss, sum(whole) + patches)
    loss.backward()
    assert model.logit_bias.grad.abs() > 0


@pytest.mark.parametrize("key", ["hf_model_name", "hf_tokenizer_name"])
def test_texts_of_transformers_are_not_trained_here(key, dataset, tmp_path):
    config = tmp_path / "tiny.json"
    config.write_text(json.dumps({**CONFIG, "text_cfg": {**CONFIG["text_cfg"], key: "xlm"}}))
    with pytest.raises(UserError, match=rf"clip\.model tiny has {key} 'xlm'.* remove the key"):
        prepare_clip(
            str(config),
            pretrained="demo",
            resize_mode="squash",
            preprocess_as=None,
            training=PARAMS,
            dataset=dataset,
            runtime=RuntimeParams(workers=0),
            out=tmp_path / "clip",
        )
    assert not (tmp_path / "clip").exists()


def test_a_batch_larger_than_the_split_is_all_of_it(pairs):
    (step,) = batches_of(pairs, 100, seed=1, epoch=1)
    assert len(step.image_ids) == 12


def test_nothing_is_said_of_features_since_none_are_read(pairs, capsys):
    train(new_model(), pairs, PARAMS.model_copy(update={"epochs": 1}), "key")
    said = capsys.readouterr().out
    assert "CLIP epoch 1: " in said and "waited" not in said


def test_a_loss_that_is_not_finite_stops(pairs):
    model = new_model()
    with torch.no_grad():
        model.visual.proj.fill_(math.nan)
    with pytest.raises(
        UserError, match=r"CLIP epoch 1, step 1: loss nan.*not finite, so training stops; try"
    ):
        train(model, pairs, PARAMS, "key")


def test_key_changes_with_pictures_and_captions(dataset):
    records, captions = read_images(dataset, "train"), read_captions(dataset)
    before = pairs_key(records, captions)
    assert pairs_key(records[1:], captions) != before
    captions[11][0] = replace(captions[11][0], text="something else")
    assert pairs_key(records, captions) != before
