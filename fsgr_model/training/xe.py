"""Cross-entropy training: the next word of the annotators' captions, and the losses beside it.

Shapes: B images, S captions, L positions, V words.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fsgr_model.clip.text_tower import load_text_tower
from fsgr_model.device import pick_device
from fsgr_model.network.assembly import Assembly, assemble
from fsgr_model.network.captioner import Captioner
from fsgr_model.params import ModelParams, XeParams
from fsgr_model.text.vocabulary import PAD
from fsgr_model.training.alignment import ProgressiveAlignment, level_weights
from fsgr_model.training.auxiliary import AuxiliaryLoss
from fsgr_model.training.batches import Batch
from fsgr_model.training.contrast import PatchContrast
from fsgr_model.training.moment import Moment
from fsgr_model.training.run import Run, train
from fsgr_model.training.schedule import describe_by_epoch
from fsgr_model.training.split_data import caption_tokens, label_maps


class CrossEntropy:
    """Mean negative log-likelihood of the caption words and end tokens of a batch; padding counts nothing.

    The weighted terms of the auxiliary losses are added.
    """

    name = "XE"
    uses_dropout = True

    def __init__(self, auxiliaries: Sequence[AuxiliaryLoss] = ()) -> None:
        self.auxiliaries = auxiliaries
        self.heads: nn.Module = nn.ModuleList(auxiliary.heads for auxiliary in auxiliaries)

    def loss(self, model: Captioner, batch: Batch, moment: Moment) -> tuple[Tensor, dict[str, float]]:
        """The loss of a batch (scalar, float32); where there are auxiliary losses, its unweighted terms."""
        encoded = model.encode(batch.tokens_BTW)
        logits_BSLV, _ = model.decoder(batch.caption_BSL[..., :-1], encoded.start)
        target_BSL = batch.caption_BSL[..., 1:]
        loss = F.cross_entropy(logits_BSLV.flatten(0, 2).float(), target_BSL.flatten(), ignore_index=PAD)
        terms = [term for auxiliary in self.auxiliaries for term in auxiliary.terms(encoded, batch, moment)]
        if not terms:
            return loss, {}
        values = torch.stack([loss, *(term.loss for term in terms)])
        report = dict(zip(["xe", *(term.name for term in terms)], values.tolist(), strict=True))
        return values @ values.new_tensor([1.0, *(term.weight for term in terms)]), report

    def tensors(self) -> dict[str, Tensor]:
        """The heads of the auxiliary losses."""
        return {f"heads.{name}": weight for name, weight in self.heads.state_dict().items()}

    def load(self, tensors: dict[str, Tensor]) -> None:
        """Take over the heads."""
        self.heads.load_state_dict({name: tensors[f"heads.{name}"] for name in self.heads.state_dict()})


def train_xe(run: Run, lr: float, model: ModelParams, xe: XeParams) -> None:
    """Train from fresh weights at the peak rate `lr`."""
    assembly = assemble(run.data, "train", model, run.seed, pick_device())
    shuffle_seed = run.seed if xe.shuffle_features else None
    labels = label_maps(run.data, "train", assembly) if xe.contrast_weight else None
    auxiliaries: list[AuxiliaryLoss] = []
    if labels is not None:
        auxiliaries.append(PatchContrast(xe.contrast_weight, xe.contrast_anchors))
    if xe.alignment == "progressive":
        auxiliaries.append(progressive_alignment(run, assembly, model.d_model, xe.epochs))
    inputs = {"shuffle_seed": shuffle_seed, "labels": None if labels is None else labels.identity}
    train(run, assembly, CrossEntropy(auxiliaries), xe, lr, inputs, shuffle_seed, labels)


def progressive_alignment(run: Run, assembly: Assembly, d_model: int, epochs: int) -> ProgressiveAlignment:
    """The alignment losses on the captions of the training split; prints their weights."""
    captions = caption_tokens(run.data, "train")
    words = {word for of_image in captions.values() for caption in of_image for word in caption}
    tower = load_text_tower(run.data / "clip", words, assembly.device)
    weights = level_weights(epochs)
    torch.manual_seed(run.seed)
    alignment = ProgressiveAlignment(captions, tower, d_model, tower.joint_width, weights)
    alignment.heads.to(assembly.device)
    count = sum(weight.numel() for weight in alignment.heads.parameters())
    print(f"alignment heads, dropped after training: {count:,} parameters\n{describe_by_epoch(weights)}")
    return alignment
