"""Cross-entropy training: the next word of the annotators' captions, and the losses beside it.

Shapes: B images, S captions, L positions, V words, N words that count.
"""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fsgr_model.clip.feature_store import RowStore
from fsgr_model.clip.text_tower import load_text_tower
from fsgr_model.datasets.normal_form import read_images
from fsgr_model.device import pick_device
from fsgr_model.network.assembly import Assembly, assemble
from fsgr_model.network.captioner import Captioner
from fsgr_model.network.packing import Packing
from fsgr_model.params import ModelParams, XeParams
from fsgr_model.text.vocabulary import PAD
from fsgr_model.training.alignment import ProgressiveAlignment, level_weights
from fsgr_model.training.auxiliary import AuxiliaryLoss
from fsgr_model.training.batches import Batch
from fsgr_model.training.contrast import PatchContrast
from fsgr_model.training.moment import Moment
from fsgr_model.training.prompt_start import begin_at_patches
from fsgr_model.training.prototypes import PrototypeSearch, check_window
from fsgr_model.training.run import Run, train
from fsgr_model.training.schedule import describe_by_epoch
from fsgr_model.training.split_data import caption_tokens, drawn_images, label_maps


class CrossEntropy:
    """Mean negative log-likelihood of the caption words and end tokens of a batch; padding counts nothing.

    The weighted terms of the auxiliary losses are added.
    """

    name = "XE"
    uses_dropout = True

    def __init__(
        self, auxiliaries: Sequence[AuxiliaryLoss] = (), prototypes: PrototypeSearch | None = None
    ) -> None:
        """`prototypes` is fed with every batch, and renews the network's memory."""
        self.auxiliaries = auxiliaries
        self.heads: nn.Module = nn.ModuleList(auxiliary.heads for auxiliary in auxiliaries)
        self.prototypes = prototypes

    def loss(self, model: Captioner, batch: Batch, moment: Moment) -> tuple[Tensor, dict[str, float]]:
        """The loss of a batch (scalar, float32); where there are auxiliary losses, its unweighted terms."""
        if self.prototypes is not None:
            self.prototypes.renew_if_due()
        target_BSL = batch.caption_BSL[..., 1:]
        counted_BSL = target_BSL != PAD
        # Before the network has work: it asks the device for numbers of words.
        packing = Packing.of(counted_BSL)
        encoded = model.encode(batch.tokens_BTW)
        logits_NV, state = model.decoder(batch.caption_BSL[..., :-1], encoded.start, packing)
        if self.prototypes is not None:
            self.prototypes.record(state, packing.counted_BQ)
        loss = F.cross_entropy(logits_NV.float(), target_BSL[counted_BSL])
        terms = [term for auxiliary in self.auxiliaries for term in auxiliary.terms(encoded, batch, moment)]
        if not terms:
            return loss, {}
        values = torch.stack([loss, *(term.loss for term in terms)])
        report = dict(zip(["xe", *(term.name for term in terms)], values.tolist(), strict=True))
        return values @ values.new_tensor([1.0, *(term.weight for term in terms)]), report

    def doubt(self, model: Captioner, means: dict[str, float]) -> str | None:
        """A guess that gives every word the same chance has the loss ln V."""
        uniform = math.log(len(model.decoder.word_embedding.weight))
        loss = means.get("xe", means["loss"])
        if loss < uniform:
            return None
        return (
            f"the loss {loss:.3f} is not below that of blind guessing, ln V = {uniform:.3f}: nothing is "
            "being learned; look at the learning rates above, the captions and the features"
        )

    def tensors(self) -> dict[str, Tensor]:
        """The heads of the auxiliary losses, and the banks of the prototypes."""
        heads = {f"heads.{name}": weight for name, weight in self.heads.state_dict().items()}
        return heads if self.prototypes is None else heads | self.prototypes.banks.tensors()

    def load(self, tensors: dict[str, Tensor]) -> None:
        """Take over both."""
        self.heads.load_state_dict({name: tensors[f"heads.{name}"] for name in self.heads.state_dict()})
        if self.prototypes is not None:
            self.prototypes.banks.load(tensors)


def train_xe(run: Run, lr: float, model: ModelParams, xe: XeParams) -> None:
    """Train from fresh weights at the peak rate `lr`."""
    assembly, phase, labels = prepare_xe(run, model, xe)
    shuffle_seed = run.seed if xe.shuffle_features else None
    inputs = {"shuffle_seed": shuffle_seed, "labels": None if labels is None else labels.identity}
    train(run, assembly, phase, xe, lr, inputs, shuffle_seed, labels)
    if phase.prototypes is not None and not phase.prototypes.found:
        print("the best network is from before the first prototypes: its memory is empty", flush=True)


def prepare_xe(run: Run, model: ModelParams, xe: XeParams) -> tuple[Assembly, CrossEntropy, RowStore | None]:
    """The network with fresh weights, its losses, and the label maps if one of these needs them."""
    assembly = assemble(run.data, "train", model, run.seed, pick_device())
    if model.prompts and model.prompt_start == "patches":
        begin_at_patches(run.data, assembly, drawn_images(xe, run.seed), run.seed)
    labels = label_maps(run.data, "train", assembly) if xe.contrast_weight else None
    auxiliaries: list[AuxiliaryLoss] = []
    if labels is not None:
        auxiliaries.append(PatchContrast(xe.contrast_weight, xe.contrast_anchors))
    if xe.alignment == "progressive":
        auxiliaries.append(progressive_alignment(run, assembly, model.d_model, xe))
    prototypes = None
    if model.memory == "prototypes":
        check_window(model, xe, len(read_images(run.data / "dataset", "train")))
        prototypes = PrototypeSearch(assembly.captioner, model)
    return assembly, CrossEntropy(auxiliaries, prototypes), labels


def progressive_alignment(run: Run, assembly: Assembly, d_model: int, xe: XeParams) -> ProgressiveAlignment:
    """The alignment losses on the captions that are trained on; prints their weights."""
    captions = caption_tokens(run.data, "train", drawn_images(xe, run.seed))
    words = {word for of_image in captions.values() for caption in of_image for word in caption}
    tower = load_text_tower(run.data / "clip", words, assembly.device)
    weights = level_weights(xe.epochs, xe.alignment_weight)
    torch.manual_seed(run.seed)
    alignment = ProgressiveAlignment(captions, tower, d_model, tower.joint_width, weights)
    alignment.heads.to(assembly.device)
    count = sum(weight.numel() for weight in alignment.heads.parameters())
    print(f"alignment heads, dropped after training: {count:,} parameters\n{describe_by_epoch(weights)}")
    return alignment
