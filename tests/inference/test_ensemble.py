"""Networks that choose words together: beside the mean of their probabilities, counted without a cache."""

from pathlib import Path

import pytest
import torch

from fsgr_model.datasets.image_file import open_rgb
from fsgr_model.datasets.normal_form import read_images
from fsgr_model.inference.beam_search import Guidance, beam_search
from fsgr_model.inference.decoding import sample, word_log_probs
from fsgr_model.inference.ensemble import EnsembleCaptioner, load
from fsgr_model.inference.mean_probability import EnsembleState, mean_probabilities
from fsgr_model.inference.model_folder import ModelFiles
from fsgr_model.inference.must_occur import MustOccur
from fsgr_model.runtime.errors import UserError
from fsgr_model.runtime.tensor_file import load_tensors, save_tensors
from fsgr_model.text.vocabulary import BOS, EOS
from tests.inference.brute_force import (
    MAX_LENGTH,
    B,
    V,
    contains,
    every_caption,
    log_probs,
    small_decoder,
    step_of,
    words_of,
)

MEMBERS = [small_decoder(seed) for seed in (3, 4, 5)]
STATE = EnsembleState(tuple(start for _, start in MEMBERS))


def together(word_BS, state):
    read = [step_of(decoder)(word_BS, own) for (decoder, _), own in zip(MEMBERS, state.states, strict=True)]
    return mean_probabilities([logits for logits, _ in read]), EnsembleState(tuple(own for _, own in read))


def mean_log_probs() -> tuple[list, torch.Tensor]:
    """All captions, and the sum of the logarithms of the mean probabilities of their words."""
    captions = every_caption()
    of_members = torch.stack([log_probs(decoder, start, captions) for decoder, start in MEMBERS])
    return captions, of_members.exp().mean(dim=0).log().sum(dim=-1)


@pytest.mark.parametrize("phrase", [None, (6, 4)])
def test_a_wide_beam_of_an_ensemble_finds_the_best_by_mean_probability(phrase) -> None:
    captions, score_BS = mean_log_probs()
    must = phrase and MustOccur([phrase], num_words=V, most_words=MAX_LENGTH, device=torch.device("cpu"))
    with torch.no_grad():
        found, _ = beam_search(
            together,
            STATE,
            B,
            beam_size=len(captions),
            max_length=MAX_LENGTH,
            guidance=Guidance(must=must),
        )
    for b in range(B):
        order = score_BS[b].argsort(descending=True).tolist()
        best = [captions[index] for index in order if not phrase or contains(captions[index], phrase)]
        assert [words_of(row) for row in found[b]][:20] == best[:20]


def test_samples_of_an_ensemble_come_as_often_as_their_mean_probability() -> None:
    torch.manual_seed(0)
    captions, score_BS = mean_log_probs()
    with torch.no_grad():
        drawn = sample(together, STATE, B, num_samples=4000, max_length=MAX_LENGTH)
    for b in range(B):
        spoken = [words_of(row) for row in drawn[b]]
        for index in score_BS[b].argsort(descending=True)[:5].tolist():
            p = score_BS[b, index].exp().item()
            assert abs(spoken.count(captions[index]) / 4000 - p) < 5 * (p * (1 - p) / 4000) ** 0.5


@pytest.fixture
def other_files(project: Path, files: ModelFiles, tmp_path: Path) -> ModelFiles:
    """The same network with other weights of the last layer: another seed."""
    tensors, facts = load_tensors(files.weights / "model.safetensors", "")
    torch.manual_seed(1)
    output = tensors["decoder.output.weight"]
    tensors["decoder.output.weight"] = output + 0.3 * output.std() * torch.randn_like(output)
    save_tensors(tmp_path / "model.safetensors", tensors, facts)
    return ModelFiles(files.artifacts, tmp_path, files.params_file)


def prepared(captioner, project: Path) -> list:
    records = read_images(project / "data" / "dataset", "test")
    return [captioner.prepare(open_rgb(Path(record.path))) for record in records]


def test_a_model_with_itself_is_the_model(project: Path, files: ModelFiles) -> None:
    alone, twice = load([files], n_best=3), load([files, files], n_best=3)
    assert isinstance(twice, EnsembleCaptioner)
    for one, two in zip(
        alone.describe(prepared(alone, project)), twice.describe(prepared(twice, project)), strict=True
    ):
        assert [each.text for each in one.captions] == [each.text for each in two.captions]
        for a, b in zip(one.captions, two.captions, strict=True):
            assert a.word_log_probabilities == pytest.approx(b.word_log_probabilities, abs=1e-4)
        assert (one.concept_SS == two.concept_SS).all()


def test_probabilities_of_an_ensemble_are_between_those_of_its_models(
    project: Path, files: ModelFiles, other_files: ModelFiles
) -> None:
    members = [load([each]) for each in (files, other_files)]
    both = load([files, other_files])
    described = both.describe(prepared(both, project))
    for image, each in zip(prepared(members[0], project), described, strict=True):
        (caption,) = each.captions
        word_11L = torch.tensor([[[BOS, *caption.word_ids]]])
        own = []
        for member in members:
            with torch.no_grad():
                start = member.encode([image]).start
                logits = member.assembly.captioner.decoder(word_11L, start)[0][0, 0]
            own.append(
                [
                    row[word].item()
                    for row, word in zip(word_log_probs(logits).exp(), [*caption.word_ids, EOS], strict=True)
                ]
            )
        mean = [sum(pair) / 2 for pair in zip(*own, strict=True)]
        assert torch.tensor(caption.word_log_probabilities).exp().tolist() == pytest.approx(mean, abs=1e-3)


def test_models_of_other_words_are_refused(files: ModelFiles, tmp_path: Path, monkeypatch) -> None:
    first, second = load([files]), load([files])
    words = second.assembly.vocabulary.words
    monkeypatch.setattr(second.assembly.vocabulary, "words", [*words[:-1], "zebra"])
    with pytest.raises(UserError, match=r"model 2 of the ensemble has another word list .* of them in both"):
        EnsembleCaptioner([first, second])
    with pytest.raises(UserError, match="no model is given"):
        load([])
