"""Captions without their padding: all words of an image's captions are concatenated in one row.

Captions of a batch are padded to the longest one, and a network that reads the padding computes a third of
its decoder for nothing on COCO's captions.

Shapes: B images, S captions per image, L positions, Q positions of a row, N words that count.
"""

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Packing:
    """The indices of the words that count, before and after packing.

    `place_BQ`: int64 indices into an image's S * L, in order. A row with fewer words than the longest ends
    with indices that do not count. `counted_BQ`: bool. `row_N`: int64 indices of those that
    count among all B * Q.
    """

    place_BQ: Tensor
    counted_BQ: Tensor
    row_N: Tensor
    length: int

    @staticmethod
    def of(counted_BSL: Tensor) -> "Packing":
        """Pack what `counted_BSL` (bool) marks, which is a prefix of each caption."""
        counted_BK = counted_BSL.flatten(1)
        longest = int(counted_BK.sum(dim=1).max()) if len(counted_BK) else 0
        place_BQ = counted_BK.logical_not().long().argsort(dim=1, stable=True)[:, :longest]
        counted_BQ = counted_BK.gather(1, place_BQ)
        return Packing(place_BQ, counted_BQ, counted_BQ.flatten().nonzero()[:, 0], counted_BSL.shape[-1])

    @property
    def position_BQ(self) -> Tensor:
        """The position of each word in its caption."""
        return self.place_BQ % self.length

    @property
    def sees_BQQ(self) -> Tensor:
        """bool: whether the first word sees the second one, which is in its caption and not later."""
        caption_BQ = self.place_BQ // self.length
        same_BQQ = caption_BQ[:, :, None] == caption_BQ[:, None]
        return same_BQQ & (self.place_BQ[:, :, None] >= self.place_BQ[:, None])

    def pack(self, x_BSL: Tensor) -> Tensor:
        """[B, S, L] -> [B, Q]"""
        return x_BSL.flatten(1).gather(1, self.place_BQ)

    def counted(self, x_BQD: Tensor) -> Tensor:
        """[B, Q, D] -> [N, D], the words that count, in the order of `x_BSLD[counted_BSL]`."""
        return x_BQD.flatten(0, 1).index_select(0, self.row_N)
