"""Beam search as older captioning code writes it, with or without gradient: part of the reference.

Every beam holds its own copy of the encoded image. After each word the whole history of every beam is put
into a new order: what the layers have read, the words, and their log-probabilities. All candidates of an
image are sorted to find the best. It runs to the last position, whatever has ended.

Shapes: B images, S beams per image, N = B * S rows, L positions, V words, G patches, D d_model.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from bench.reference.network import ReferenceCaptioner
from fsgr_model.text.vocabulary import BOS, EOS, PAD, UNK

ReferenceStep = Callable[[Tensor, Tensor, list[Tensor]], tuple[Tensor, list[Tensor]]]


def beam_search(
    model: ReferenceCaptioner,
    step: ReferenceStep,
    image_BGD: Tensor,
    beam_size: int,
    *,
    max_length: int,
) -> tuple[Tensor, Tensor]:
    """Captions [B, S, L], the best first, and the log-probability of each of their words [B, S, L].

    Ended captions continue with <pad>, whose log-probability is 0. With gradient if it is enabled. `step`:
    `model.step` or `model.step_again`.
    """
    B, V = len(image_BGD), model.output.out_features
    image_NGD = image_BGD
    history: list[Tensor] = []
    word_N = torch.full((B,), BOS, device=image_BGD.device)
    score_BS = torch.zeros(B, 1, device=image_BGD.device)
    alive_BS = torch.ones(B, 1, device=image_BGD.device)
    words: list[Tensor] = []
    log_probs: list[Tensor] = []
    for position in range(max_length):
        S = score_BS.shape[1]
        logits_NV, history = step(word_N, image_NGD, history)
        log_prob_BSV = torch.log_softmax(without_special_words(logits_NV), -1).view(B, S, V)
        if position > 0:
            alive_BS = alive_BS * (words[-1] != EOS).float()
            candidate_BSV = only_padding_if_ended(score_BS, log_prob_BSV, alive_BS)
            log_prob_BSV = log_prob_BSV.masked_fill(log_prob_BSV.isinf(), 0) * alive_BS.unsqueeze(-1)
        else:
            candidate_BSV = score_BS.unsqueeze(-1) + log_prob_BSV
        ordered, place = torch.sort(candidate_BSV.view(B, -1), -1, descending=True)
        score_BS, chosen_BS = ordered[:, :beam_size], place[:, :beam_size]
        parent_BS, word_BS = chosen_BS // V, chosen_BS % V
        row_N = (torch.arange(B, device=parent_BS.device).unsqueeze(1) * S + parent_BS).view(-1)
        image_NGD = image_NGD[row_N]
        history = [read[row_N] for read in history]
        alive_BS = alive_BS.gather(1, parent_BS)
        words = [earlier.gather(1, parent_BS) for earlier in words] + [word_BS]
        step_BSV = log_prob_BSV.gather(1, parent_BS.unsqueeze(-1).expand(-1, -1, V))
        chosen_log_prob = step_BSV.gather(2, word_BS.unsqueeze(-1)).squeeze(-1)
        log_probs = [earlier.gather(1, parent_BS) for earlier in log_probs] + [chosen_log_prob]
        word_N = word_BS.reshape(-1)
    return torch.stack(words, -1), torch.stack(log_probs, -1)


def without_special_words(logits_NV: Tensor) -> Tensor:
    """<unk>, <pad> and <bos> are not part of a caption."""
    special = torch.tensor([UNK, PAD, BOS], device=logits_NV.device)
    return logits_NV.index_fill(-1, special, -torch.inf)


def only_padding_if_ended(score_BS: Tensor, log_prob_BSV: Tensor, alive_BS: Tensor) -> Tensor:
    """The score of every candidate [B, S, V]; an ended caption continues with <pad> alone, at no cost."""
    candidate_BSV = score_BS.unsqueeze(-1) + log_prob_BSV
    ended_BSV = torch.full_like(candidate_BSV, -torch.inf)
    ended_BSV[..., PAD] = score_BS
    return torch.where(alive_BS.unsqueeze(-1) > 0, candidate_BSV, ended_BSV)
