"""Cross-entropy training: the next word of the annotators' captions.

Shapes: B images, S captions, L positions, V words.
"""

import torch.nn.functional as F
from torch import Tensor

from fsgr_model.datasets.normal_form import read_images
from fsgr_model.device import pick_device
from fsgr_model.errors import UserError
from fsgr_model.network.assembly import Assembly, assemble
from fsgr_model.network.captioner import Captioner
from fsgr_model.params import ModelParams, XeParams
from fsgr_model.text.vocabulary import PAD
from fsgr_model.training.batches import Batch
from fsgr_model.training.prototypes import PrototypeSearch
from fsgr_model.training.run import Run, train


class CrossEntropy:
    """Mean negative log-likelihood of the caption words and end tokens of a batch; padding counts nothing."""

    name = "XE"
    uses_dropout = True

    def __init__(self, prototypes: PrototypeSearch | None = None) -> None:
        """`prototypes` is fed with every batch, and renews the network's memory."""
        self.prototypes = prototypes

    def loss(self, model: Captioner, batch: Batch) -> tuple[Tensor, dict[str, float]]:
        """The loss of a batch (scalar, float32), and nothing else to report."""
        if self.prototypes is not None:
            self.prototypes.renew_if_due()
        encoded = model.encode(batch.tokens_BTW)
        logits_BSLV, state = model.decoder(batch.caption_BSL[..., :-1], encoded.start)
        target_BSL = batch.caption_BSL[..., 1:]
        if self.prototypes is not None:
            self.prototypes.record(state, target_BSL != PAD)
        return F.cross_entropy(logits_BSLV.flatten(0, 2).float(), target_BSL.flatten(), ignore_index=PAD), {}

    def tensors(self) -> dict[str, Tensor]:
        """The banks of the prototypes."""
        return {} if self.prototypes is None else self.prototypes.banks.tensors()

    def load(self, tensors: dict[str, Tensor]) -> None:
        """Take over the banks."""
        if self.prototypes is not None:
            self.prototypes.banks.load(tensors)


def train_xe(run: Run, lr: float, model: ModelParams, xe: XeParams) -> None:
    """Train from fresh weights at the peak rate `lr`."""
    assembly = assemble(run.data, "train", model, run.seed, pick_device())
    shuffle_seed = run.seed if xe.shuffle_features else None
    phase = CrossEntropy(_prototypes(run, assembly, model, xe))
    train(run, assembly, phase, xe, lr, {"shuffle_seed": shuffle_seed}, shuffle_seed)
    if phase.prototypes is not None and not phase.prototypes.found:
        print("the best network is from before the first prototypes: its memory is empty", flush=True)


def _prototypes(run: Run, assembly: Assembly, model: ModelParams, xe: XeParams) -> PrototypeSearch | None:
    """What finds the prototypes, if the model has any.

    Raises:
        UserError: training would end before the first of them.
    """
    if model.memory != "prototypes":
        return None
    steps = xe.epochs * -(-len(read_images(run.data / "dataset", "train")) // xe.batch_size)
    if steps <= model.memory_window:
        raise UserError(
            f"the first prototypes come after model.memory_window {model.memory_window} steps, but "
            f"{xe.epochs} epochs have {steps}; make the window shorter, or use model.memory: none"
        )
    return PrototypeSearch(assembly.captioner, model)
