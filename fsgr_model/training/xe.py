"""Cross-entropy training: the next word of the annotators' captions.

Shapes: B images, S captions, L positions, V words.
"""

import torch.nn.functional as F
from torch import Tensor

from fsgr_model.device import pick_device
from fsgr_model.network.assembly import assemble
from fsgr_model.network.captioner import Captioner
from fsgr_model.params import ModelParams, XeParams
from fsgr_model.text.vocabulary import PAD
from fsgr_model.training.batches import Batch
from fsgr_model.training.run import Run, train


class CrossEntropy:
    """Mean negative log-likelihood of the caption words and end tokens of a batch; padding counts nothing."""

    name = "XE"
    uses_dropout = True

    def loss(self, model: Captioner, batch: Batch) -> tuple[Tensor, dict[str, float]]:
        """The loss of a batch (scalar, float32), and nothing else to report."""
        logits_BSLV = model(batch.tokens_BTW, batch.caption_BSL[..., :-1])
        target_BSL = batch.caption_BSL[..., 1:]
        return F.cross_entropy(logits_BSLV.flatten(0, 2).float(), target_BSL.flatten(), ignore_index=PAD), {}


def train_xe(run: Run, lr: float, model: ModelParams, xe: XeParams) -> None:
    """Train from fresh weights at the peak rate `lr`."""
    assembly = assemble(run.data, "train", model, run.seed, pick_device())
    shuffle_seed = run.seed if xe.shuffle_features else None
    train(run, assembly, CrossEntropy(), xe, lr, {"shuffle_seed": shuffle_seed}, shuffle_seed)
