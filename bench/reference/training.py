"""Training steps as older captioning code writes them: part of the reference.

XE: a batch row is a caption with the features of its image. SCST: beam search with gradient, reward by
pycocoevalcap, the mean of the image's beams as the baseline. Dropout is off in SCST, as in ours; older code
leaves it on, which costs more.

Shapes: B images, S captions per image, N = B * S rows, L positions.
"""

import numpy as np
import torch
import torch.nn.functional as F
from pycocoevalcap.cider.cider import Cider
from torch import Tensor

from bench.reference.network import ReferenceCaptioner
from bench.reference.search import beam_search
from fsgr_model.clip.split import TailOutput
from fsgr_model.text.vocabulary import BOS, EOS, PAD


def reference_xe_step(
    model: ReferenceCaptioner, optimiser: torch.optim.Adam, seen: TailOutput, caption_NL: Tensor
) -> float:
    """`seen`: N rows, the features of an image once for each of its captions. Returns the loss."""
    model.train()
    log_prob_NLV = model(model.encode(*seen), caption_NL[:, :-1])
    loss = F.nll_loss(log_prob_NLV.flatten(0, 1), caption_NL[:, 1:].flatten(), ignore_index=PAD)
    optimiser.zero_grad()
    loss.backward()
    optimiser.step()
    return loss.item()


def reference_scst_step(
    model: ReferenceCaptioner,
    optimiser: torch.optim.Adam,
    seen: TailOutput,
    references: list[list[list[int]]],
    *,
    samples: int,
    max_length: int,
) -> float:
    """`references`: the captions of each of the B images, as word ids. Returns the loss."""
    model.eval()
    caption_BSL, log_prob_BSL = beam_search(
        model, model.step, model.encode(*seen), samples, max_length=max_length
    )
    reward_BS = rewards(caption_BSL, references)
    advantage_BS = reward_BS - reward_BS.mean(1, keepdim=True)
    loss = -(log_prob_BSL.mean(-1) * advantage_BS).mean()
    optimiser.zero_grad()
    loss.backward()
    optimiser.step()
    return loss.item()


def rewards(caption_BSL: Tensor, references: list[list[list[int]]]) -> Tensor:
    """CIDEr-D of every caption, [B, S] float32; document frequencies are those of the batch."""
    B, S, _ = caption_BSL.shape
    given, found = {}, {}
    for row, caption in enumerate(caption_BSL.flatten(0, 1).tolist()):
        given[row] = [as_text(reference) for reference in references[row // S]]
        found[row] = [as_text(caption)]
    _, score_N = Cider().compute_score(given, found)
    return torch.from_numpy(np.asarray(score_N, dtype=np.float32)).view(B, S).to(caption_BSL.device)


def as_text(caption: list[int]) -> str:
    """Word ids up to the end, as words that a scorer can split."""
    words = caption[: caption.index(EOS)] if EOS in caption else caption
    return " ".join(str(word) for word in words if word not in (BOS, PAD))
