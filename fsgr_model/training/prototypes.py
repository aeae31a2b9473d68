"""Prototypes of PMA-Net (Barraco et al., ICCV 2023, arXiv 2308.12383, section 3.2) from what training sees.

Banks keep keys and values of the last steps. At intervals the keys of a layer are clustered: the centroids
are its prototype keys, and a prototype value is a mean of the values of the keys around the centroid.

The paper leaves some points open, which are choices here: how many rows the banks keep, when the prototypes
are renewed, how many neighbours there are, and how they are weighted.

Shapes: A layers, T steps of the window, R rows kept per step, D d_model, N rows, M prototypes, k neighbours.
"""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fsgr_model.config.model_params import ModelParams, PrototypeParams
from fsgr_model.config.training_params import XeParams
from fsgr_model.network.captioner import Captioner
from fsgr_model.network.decoder import DecoderState
from fsgr_model.network.memory import Prototypes
from fsgr_model.runtime.errors import UserError, needing_extra
from fsgr_model.runtime.world import ALONE, World
from fsgr_model.training.image_draws import ImageDraws

# Twice the 32 neighbours that a prototype value is made of in the COCO preset.
ROWS_PER_PROTOTYPE = 64
KMEANS_ITERATIONS = 20
# In place of a random number from 0 to 1.
NOT_COUNTED = -1.0


class Banks:
    """Keys and values of all layers over a window of steps, a random share of each step's words.

    float16, on the network's device, of a fixed size: 4 A T R D bytes, that is 0.54 GB for 4 layers, 1500
    steps, 44 rows per step and width 512; a resume point takes as much again. A new step replaces the
    oldest.
    """

    def __init__(self, layers: int, *, window: int, rows: int, d_model: int, device: torch.device) -> None:
        self.key_ATRD = torch.zeros(layers, window, rows, d_model, dtype=torch.float16, device=device)
        self.value_ATRD = torch.zeros_like(self.key_ATRD)
        self.filled_TR = torch.zeros(window, rows, dtype=torch.bool, device=device)
        self.steps = 0

    @torch.no_grad()
    def push(self, key_AND: Sequence[Tensor], value_AND: Sequence[Tensor], counted_N: Tensor) -> None:
        """Keep some of the rows that `counted_N` marks, the same ones of every layer.

        The choice is uniform, without replacement, from torch's global generator, which the loop seeds for
        each step.
        """
        chance_N = torch.rand(len(counted_N), device=counted_N.device)
        self.push_likeliest(key_AND, value_AND, chance_N.masked_fill(~counted_N, NOT_COUNTED))

    @torch.no_grad()
    def push_likeliest(
        self, key_AND: Sequence[Tensor], value_AND: Sequence[Tensor], chance_N: Tensor
    ) -> None:
        """Keep the rows of the highest `chance_N`, without those that do not count."""
        step = self.steps % len(self.filled_TR)
        rows = min(self.filled_TR.shape[1], len(chance_N))
        chance_R, chosen_R = chance_N.topk(rows)
        self.filled_TR[step] = False
        self.filled_TR[step, :rows] = chance_R > NOT_COUNTED
        for layer, (key_ND, value_ND) in enumerate(zip(key_AND, value_AND, strict=True)):
            self.key_ATRD[layer, step, :rows] = key_ND[chosen_R].half()
            self.value_ATRD[layer, step, :rows] = value_ND[chosen_R].half()
        self.steps += 1

    def rows(self, layer: int) -> tuple[Tensor, Tensor]:
        """The keys and the values of a layer in the window, float32 [N, D] each."""
        return self.key_ATRD[layer][self.filled_TR].float(), self.value_ATRD[layer][self.filled_TR].float()

    def tensors(self) -> dict[str, Tensor]:
        """The banks as named tensors, for a resume point."""
        return {
            "banks.keys": self.key_ATRD,
            "banks.values": self.value_ATRD,
            "banks.filled": self.filled_TR,
            "banks.steps": torch.tensor(self.steps),
        }

    def load(self, tensors: dict[str, Tensor]) -> None:
        """Load what `tensors` returned."""
        self.key_ATRD.copy_(tensors["banks.keys"])
        self.value_ATRD.copy_(tensors["banks.values"])
        self.filled_TR.copy_(tensors["banks.filled"])
        self.steps = int(tensors["banks.steps"])


def check_window(model: ModelParams, xe: XeParams, images: int) -> None:
    """Stop if training on this many images would end before the first prototypes.

    Raises:
        UserError: it would; the message gives both numbers of steps.
    """
    steps = xe.epochs * xe.steps_per_epoch(images)
    if isinstance(model.memory, PrototypeParams) and steps <= model.memory.window:
        raise UserError(
            f"the first prototypes come after model.memory.window {model.memory.window} steps, but "
            f"{xe.epochs} epochs have {steps}; make the window shorter, or set model.memory: null"
        )


class PrototypeSearch:
    """Fills the banks from XE training, and renews the prototypes of every layer from them.

    The first prototypes come when the window is full, the next ones every `memory_refresh` steps, always
    before the step is computed, so that no network is validated with prototypes that it never trained with.

    New centroids start from the old ones, so that a prototype changes little. Its index does not matter,
    since attention does not depend on the order of its keys.
    """

    def __init__(self, model: Captioner, params: PrototypeParams, d_model: int, world: World = ALONE) -> None:
        """Of several processes, all keep the same banks of the words of all; each finds some prototypes."""
        self.params, self.world = params, world
        self.memories = [module for module in model.decoder.modules() if isinstance(module, Prototypes)]
        rows = -(-ROWS_PER_PROTOTYPE * params.size // params.window)
        device = model.decoder.word_embedding.weight.device
        self.banks = Banks(
            len(self.memories), window=params.window, rows=rows, d_model=d_model, device=device
        )

    @property
    def found(self) -> bool:
        """Whether the network has prototypes."""
        return all(len(memory.key_MD) > 0 for memory in self.memories)

    def record(self, state: DecoderState, counted_BQ: Tensor, draws: ImageDraws | None = None) -> None:
        """Put keys and values of some of the words that `counted_BQ` marks into the banks.

        They come from the decoder's cache, after the projection and without segment vectors. Its captions
        are packed: Q words of an image in a row.
        """
        keys, values = [], []
        for layer in state.layers:
            assert layer.word_keys is not None and layer.word_values is not None
            keys.append(layer.word_keys.transpose(1, 2).flatten(0, 1).flatten(1))
            values.append(layer.word_values.transpose(1, 2).flatten(0, 1).flatten(1))
        if draws is None:
            self.banks.push(keys, values, counted_BQ.flatten())
        else:
            chance_BQ = (-draws.exponential(counted_BQ.shape[1])).exp()
            self._push_of_all(keys, values, chance_BQ.masked_fill(~counted_BQ, NOT_COUNTED).flatten())

    @torch.no_grad()
    def _push_of_all(self, keys: list[Tensor], values: list[Tensor], chance_N: Tensor) -> None:
        """Put words of all processes into the banks; only those travel that can be among the likeliest."""
        likely_R = chance_N.topk(min(self.banks.filled_TR.shape[1], len(chance_N))).indices
        all_keys, all_values = (
            [self.world.gather(x_ND[likely_R]) for x_ND in of_kind] for of_kind in (keys, values)
        )
        self.banks.push_likeliest(all_keys, all_values, self.world.gather(chance_N[likely_R]))

    def renew_if_due(self) -> None:
        """Find new prototypes if it is time.

        Raises:
            UserError: the window has fewer words than prototypes or neighbours are asked for.
        """
        late = self.banks.steps - self.params.window
        if late < 0 or late % self.params.refresh:
            return
        finder_of = {layer: layer % self.world.size for layer in range(len(self.memories))}
        for layer, memory in enumerate(self.memories):
            key_ND, value_ND = (rows_ND.cpu() for rows_ND in self.banks.rows(layer))
            self._check_number(len(key_ND))
            seed = int(torch.randint(2**31 - 1, ()))
            if finder_of[layer] == self.world.rank:
                memory.replace(*self._find(memory, key_ND, value_ND, seed=seed))
            else:
                memory.replace(*torch.zeros(2, self.params.size, key_ND.shape[1]))
        for layer, memory in enumerate(self.memories):
            self.world.give([memory.key_MD, memory.value_MD], finder_of[layer])

    def _find(
        self, memory: Prototypes, key_ND: Tensor, value_ND: Tensor, *, seed: int
    ) -> tuple[Tensor, Tensor]:
        """Keys and values [M, D] of a layer's prototypes."""
        start_MD = memory.key_MD.cpu().numpy() if len(memory.key_MD) else None
        key_MD = cluster(key_ND.numpy(), self.params.size, seed=seed, start_MD=start_MD)
        near_Mk, weight_Mk = neighbours(key_MD, key_ND.numpy(), self.params.neighbours)
        value_MkD = value_ND[torch.from_numpy(near_Mk)]
        return torch.from_numpy(key_MD), (torch.from_numpy(weight_Mk)[..., None] * value_MkD).sum(dim=1)

    def _check_number(self, found: int) -> None:
        needed = max(self.params.size, self.params.neighbours)
        if found < needed:
            raise UserError(
                f"model.memory.window {self.params.window} steps have {found} words, but "
                f"model.memory.size {self.params.size} and model.memory.neighbours "
                f"{self.params.neighbours} need {needed}; make these smaller or the window longer"
            )


def cluster(
    row_ND: NDArray[np.float32], num: int, *, seed: int, start_MD: NDArray | None
) -> NDArray[np.float32]:
    """Centroids of K-means [M, D] float32, from `start_MD` on or from rows that the seed picks.

    Equal input and seed give equal centroids.
    """
    # Not at the top: on a Mac, faiss and torch each load an OpenMP, and the two may crash together.
    with needing_extra("prototypes"):
        import faiss

    kmeans = faiss.Kmeans(row_ND.shape[1], num, niter=KMEANS_ITERATIONS, seed=seed, min_points_per_centroid=1)
    kmeans.train(row_ND, init_centroids=start_MD)
    assert kmeans.centroids is not None
    return kmeans.centroids.copy()


def neighbours(
    centroid_MD: NDArray[np.float32], row_ND: NDArray[np.float32], num: int
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """The rows nearest to each centroid [M, k], and their weights [M, k], which sum to 1.

    The weights are softmax(-d^2 / tau) over the neighbours, d the Euclidean distance, tau the median of d^2
    over all of them (a choice: it makes the weights free of the keys' scale).
    """
    with needing_extra("prototypes"):
        import faiss

    squared_Mk, near_Mk = faiss.knn(centroid_MD, row_ND, num)
    tau = max(float(np.median(squared_Mk)), float(np.finfo(np.float32).tiny))
    weight_Mk = np.exp((squared_Mk.min(axis=1, keepdims=True) - squared_Mk) / tau)
    return near_Mk, weight_Mk / weight_Mk.sum(axis=1, keepdims=True)
