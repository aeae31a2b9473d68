"""CIDEr-D on a GPU: the scorer of `cider_d` with its tables on the device, without synchronisation.

Everything has a fixed shape, with room for every possible n-gram, so nothing returns to the CPU before the
scores do. Equal to `CiderD` but for the order of float64 sums: below 1e-12.

Shapes: N captions, L positions, K orders of n-grams, M = N x K x L n-grams, R references per image,
P places of the fullest bucket of an index.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from fsgr_model.kernels.cuda_graphs import Replayed
from fsgr_model.scoring.cider_d import SIGMA, CiderD
from fsgr_model.scoring.ngrams import GOLDEN, MAX_ORDER, NOTHING, KeyIndex
from fsgr_model.text.vocabulary import EOS, PAD

# The same 64 bits as a signed number, which is all that PyTorch multiplies.
SIGNED_GOLDEN = int(GOLDEN) - 2**64
# Captions are filled up to a multiple of so many positions, so that few shapes occur.
POSITIONS = 8


class DeviceCiderD:
    """Scores captions on `device`, which must support float64 (CUDA and the CPU do)."""

    def __init__(self, scorer: CiderD, device: torch.device) -> None:
        self.scorer = scorer
        self.grams = _DeviceIndex(scorer.frequencies.index, device)
        self.references = _DeviceIndex(scorer.index, device)
        self.idf = torch.from_numpy(scorer.frequencies.idf_of_place).to(device)
        self.counts_MR = torch.from_numpy(scorer.counts_MR.astype("int16")).to(device)
        self.norm_AKR = torch.from_numpy(scorer.norm_AKR).to(device)
        self.penalised_AR = torch.from_numpy(scorer.penalised_AR).to(device)
        self.num_references_A = torch.from_numpy(scorer.num_references_A).to(device)
        # A hundred small kernels, which take longer to launch than to run.
        self._replayed = Replayed(self._score)

    @torch.no_grad()
    def score(self, caption_NL: Tensor, image_ids: Sequence[int]) -> Tensor:
        """CIDEr-D of each caption, float64 [N] on the device; word ids are taken to be in range.

        Raises:
            ValueError: an image has no references.
        """
        image_N = torch.from_numpy(self.scorer.places(image_ids)).to(caption_NL.device, non_blocking=True)
        filled_NL = F.pad(caption_NL, (0, -caption_NL.shape[-1] % POSITIONS), value=PAD)
        return self._replayed(filled_NL, image_N)

    def _score(self, caption_NL: Tensor, image_N: Tensor) -> Tensor:
        length_N = _lengths(caption_NL, self.scorer.end_token)
        key_NKL = _ngrams(caption_NL, length_N, self.scorer.frequencies.num_words + 1)
        count_NKL = _counts(key_NKL)
        # n-grams of no image have the last index: -1
        idf_NKL = self.idf[self.grams.find(key_NKL, torch.zeros_like(key_NKL))]
        weight_NKL = count_NKL * idf_NKL
        row_NKL = self.references.find(key_NKL, image_N[:, None, None].expand_as(key_NKL))
        shared_NKL = row_NKL >= 0
        reference_NKLR = self.counts_MR[row_NKL] * (idf_NKL * shared_NKL)[..., None]
        dot_NKR = (torch.minimum(weight_NKL[..., None], reference_NKLR) * reference_NKLR).sum(dim=2)
        scale_NKR = weight_NKL.norm(dim=2)[..., None] * self.norm_AKR[image_N]
        cosine_NKR = dot_NKR / torch.where(scale_NKR == 0, 1, scale_NKR)
        difference_NR = (length_N - 1).clamp(min=0)[:, None] - self.penalised_AR[image_N]
        penalty_NR = torch.exp(-(difference_NR**2) / (2 * SIGMA**2))
        total_N = (cosine_NKR.mean(dim=1) * penalty_NR).sum(dim=1)
        return 10.0 * total_N / self.num_references_A[image_N].clamp(min=1)


class _DeviceIndex:
    """A `KeyIndex` on a device. All entries of a bucket are compared at once."""

    def __init__(self, index: KeyIndex, device: torch.device) -> None:
        self.bits = index.bits
        # One more key than there are, so that a look past the last one is allowed. F.pad would round NOTHING
        # to a float64: findings/torch_pad_rounds_integers.sh.
        keys = torch.from_numpy(index.keys)
        self.keys = torch.cat([keys, keys.new_full((index.deepest + 1,), NOTHING)]).to(device)
        self.start = torch.from_numpy(index.start).to(device)
        self.place_P = torch.arange(index.deepest, device=device)

    def find(self, key: Tensor, group: Tensor) -> Tensor:
        """As `KeyIndex.find`, for keys and groups of any shape."""
        hashed = (key * SIGNED_GOLDEN) >> (64 - self.bits) & (1 << self.bits) - 1
        bucket = (group << self.bits) + hashed
        start, end = self.start[bucket], self.start[bucket + 1]
        place_P = start[..., None] + self.place_P
        hit_P = (self.keys[place_P] == key[..., None]) & (place_P < end[..., None])
        # At most one hit.
        return ((place_P + 1) * hit_P).sum(dim=-1) - 1


def _lengths(caption_NL: Tensor, end_token: bool) -> Tensor:
    """Words of each row up to its first `<eos>` (counted with `end_token`) or `<pad>`, [N]."""
    ended_NL = ((caption_NL == EOS) | (caption_NL == PAD)).cumsum(dim=1)
    counted_NL = ended_NL == 0
    if end_token:
        counted_NL |= (ended_NL == 1) & (caption_NL == EOS)
    return counted_NL.sum(dim=1)


def _ngrams(caption_NL: Tensor, length_N: Tensor, base: int) -> Tensor:
    """The n-grams that start at each position, [N, K, L]; NOTHING where none does."""
    N, L = caption_NL.shape
    key_NKL = caption_NL.new_full((N, MAX_ORDER, L), NOTHING)
    key_NL = torch.zeros_like(caption_NL)
    for order in range(min(MAX_ORDER, L)):
        key_NL = key_NL[:, : L - order] * base + caption_NL[:, order:] + 1
        inside_NL = torch.arange(order, L, device=caption_NL.device) < length_N[:, None]
        key_NKL[:, order, : L - order] = torch.where(inside_NL, key_NL, NOTHING)
    return key_NKL


def _counts(key_NKL: Tensor) -> Tensor:
    """How often an n-gram occurs, at its first position in a caption; 0 at other positions."""
    equal_NKLL = key_NKL[..., :, None] == key_NKL[..., None, :]
    first_NKL = ~equal_NKLL.tril(-1).any(dim=-1)
    return equal_NKLL.sum(dim=-1) * (first_NKL & (key_NKL != NOTHING))
