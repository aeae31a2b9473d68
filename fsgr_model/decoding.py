"""Greedy, sampled and beam-searched captions: plain functions over a step and its state.

Shapes: B images, S captions (samples or beams) of an image, L positions, V words.
A caption is a row of word ids without <bos>; it ends with <eos>, then <pad>; one that was cut at
`max_length` positions has no <eos>.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from fsgr_model.network.decoder import DecoderState
from fsgr_model.text.vocabulary import BOS, EOS, PAD, UNK

Step = Callable[[Tensor, DecoderState], tuple[Tensor, DecoderState]]
"""The last words [B, S] int64 and the state in; logits [B, S, V] of the next words and the new state out."""

NEVER_SPOKEN = (UNK, PAD, BOS)


def word_log_probs(logits: Tensor) -> Tensor:
    """Log-probabilities over the words a caption may hold, float32; <unk>, <pad> and <bos> have none."""
    logits = logits.float().clone()
    logits[..., NEVER_SPOKEN] = -torch.inf
    return logits.log_softmax(dim=-1)


def spoken_log_probs(logits_BSLV: Tensor, caption_BSL: Tensor) -> Tensor:
    """Log-probability of every word of given captions, [B, S, L] float32; 0 at padding.

    `logits_BSLV` are those of teacher forcing: position l was read before word l was chosen.
    """
    padded_BSL = caption_BSL == PAD
    # Any spoken word stands in for padding, whose own log-probability is minus infinity.
    chosen_BSL = caption_BSL.masked_fill(padded_BSL, logits_BSLV.shape[-1] - 1)
    log_prob_BSL = word_log_probs(logits_BSLV).gather(-1, chosen_BSL[..., None])[..., 0]
    return log_prob_BSL.masked_fill(padded_BSL, 0.0)


def preceding_words(caption_BSL: Tensor) -> Tensor:
    """What the decoder has read when it chooses each word: `<bos>`, then all words but the last."""
    return torch.cat([torch.full_like(caption_BSL[..., :1], BOS), caption_BSL[..., :-1]], dim=-1)


def greedy(step: Step, state: DecoderState, num_images: int, max_length: int) -> Tensor:
    """The likeliest word at every position, [B, 1, L] int64."""
    return _extend(step, state, (num_images, 1), max_length, lambda log_prob_BSV: log_prob_BSV.argmax(dim=-1))


def sample(step: Step, state: DecoderState, num_images: int, num_samples: int, max_length: int) -> Tensor:
    """Independent draws from the model, [B, S, L] int64; randomness from torch's global generator."""

    def draw(log_prob_BSV: Tensor) -> Tensor:
        # Gumbel-max: an exact draw from the softmax without its cumulative sum.
        exponential_BSV = torch.empty_like(log_prob_BSV).exponential_().clamp_(min=1e-30)
        return (log_prob_BSV - exponential_BSV.log()).argmax(dim=-1)

    return _extend(step, state, (num_images, num_samples), max_length, draw)


def _extend(
    step: Step,
    state: DecoderState,
    shape: tuple[int, int],
    max_length: int,
    choose: Callable[[Tensor], Tensor],
) -> Tensor:
    """Add one chosen word at a time until every caption has ended or is full."""
    device = state.layers[0].image_keys.device
    word_BS = torch.full(shape, BOS, device=device)
    ended_BS = torch.zeros(shape, dtype=torch.bool, device=device)
    words = []
    for _ in range(max_length):
        logits_BSV, state = step(word_BS, state)
        word_BS = torch.where(ended_BS, PAD, choose(word_log_probs(logits_BSV)))
        words.append(word_BS)
        ended_BS = ended_BS | (word_BS == EOS)
        if bool(ended_BS.all()):
            break
    return torch.stack(words, dim=-1)


def beam_search(
    step: Step, state: DecoderState, num_images: int, beam_size: int, max_length: int
) -> tuple[Tensor, Tensor]:
    """The likeliest captions that keep `beam_size` hypotheses an image at every position.

    The score is the sum of log-probabilities, the end token's included, without length normalisation;
    an ended hypothesis keeps its score and its place until better ones push it out.

    Returns:
        captions [B, S, L] int64, the best first, and their log-probabilities [B, S] float32.
    """
    B, S = num_images, beam_size
    device = state.layers[0].image_keys.device
    # One live hypothesis at the start; the others cannot win until it has children.
    score_BS = torch.full((B, S), -torch.inf, device=device)
    score_BS[:, 0] = 0.0
    word_BS = torch.full((B, S), BOS, device=device)
    caption_BSL = torch.empty((B, S, 0), dtype=torch.int64, device=device)
    ended_BS = torch.zeros((B, S), dtype=torch.bool, device=device)
    first_row_B1 = torch.arange(B, device=device)[:, None] * S
    for _ in range(max_length):
        logits_BSV, state = step(word_BS, state)
        log_prob_BSV = _only_pad_after_end(word_log_probs(logits_BSV), ended_BS)
        V = log_prob_BSV.shape[-1]
        score_BS, choice_BS = (score_BS[..., None] + log_prob_BSV).flatten(1).topk(S, dim=-1)
        parent_BS = choice_BS // V
        word_BS = choice_BS % V
        state = state.select((first_row_B1 + parent_BS).flatten())
        caption_BSL = caption_BSL.gather(1, parent_BS[..., None].expand_as(caption_BSL))
        caption_BSL = torch.cat([caption_BSL, word_BS[..., None]], dim=-1)
        ended_BS = ended_BS.gather(1, parent_BS) | (word_BS == EOS)
        if bool(ended_BS.all()):
            break
    return caption_BSL, score_BS


def _only_pad_after_end(log_prob_BSV: Tensor, ended_BS: Tensor) -> Tensor:
    """An ended hypothesis goes on with <pad> at no cost, and with nothing else."""
    padded_V = torch.full_like(log_prob_BSV[0, 0], -torch.inf)
    padded_V[PAD] = 0.0
    return torch.where(ended_BS[..., None], padded_V, log_prob_BSV)
