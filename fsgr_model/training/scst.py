"""Self-critical sequence training (Rennie et al., arXiv 1612.00563) with several samples per image.

The baseline of a sample is the mean reward of the image's other samples (Luo, arXiv 2003.09971), or the
reward of the greedy caption (Rennie et al., equation 8), or the mean of all samples. Dropout is off in both
passes, so the captions are drawn from the same distribution that is scored.

Shapes: B images, S samples per image, L positions, V words, N words that count.
"""

from functools import partial
from types import MappingProxyType

import torch
from torch import Tensor, nn

from fsgr_model.config.training_params import Baseline
from fsgr_model.inference.decoding import caption_log_probs, greedy, preceding_words, sample
from fsgr_model.kernels.cuda_graphs import Replayed, ReplayedLoss
from fsgr_model.network.captioner import Captioner
from fsgr_model.network.decoder import DecoderState
from fsgr_model.network.packing import Packing
from fsgr_model.runtime.world import ALONE, World
from fsgr_model.text.vocabulary import PAD
from fsgr_model.training.batches import Batch
from fsgr_model.training.rewards import Reward, RewardSum, as_sum
from fsgr_model.training.task import Step, Task
from fsgr_model.training.variety import Variety

# Samples with a smaller share of the score that the likeliest captions had come from an unsure network.
UNSURE = 0.6


class SelfCritical(Task[Batch]):
    """Policy gradient on a reward, or on a sum of several."""

    name, section = "SCST", "scst"
    begins_trained = True
    uses_dropout = False
    can_be_cut = True
    counted = MappingProxyType({"reward": "samples", "length": "samples"})

    def __init__(
        self,
        reward: Reward | RewardSum,
        *,
        num_samples: int,
        max_length: int,
        baseline: Baseline = "others",
        world: World = ALONE,
    ) -> None:
        self.world = world
        self.heads = nn.Module()
        self.reward = as_sum(reward)
        self.baseline: Baseline = baseline
        self.replayed: tuple[Replayed, ReplayedLoss] | None = None
        self.num_samples = num_samples
        self.max_length = max_length

    def loss(self, model: Captioner, batch: Batch, step: Step) -> tuple[Tensor, dict[str, float]]:
        """Mean over all sampled words (end tokens counted) of -(reward - baseline) * log-probability.

        Returns:
            the loss (scalar, float32), and the mean reward and length of the samples; of several rewards
            also the mean of each, without its weight.
        """
        # A greedy caption is not recorded: its search is a second one, of other shapes.
        recorded = self.replays and self.baseline != "greedy"
        if recorded and batch.tokens_BTW.is_cuda and batch.image_ids:
            return self._replay(model, batch)
        # Without dropout an image is encoded alike for drawing and for scoring, so it is encoded once.
        start = model.encode(batch.tokens_BTW).start
        with torch.no_grad():
            caption_BSL = self.draw(model, start)
            greedy_B1L = self.greedy_captions(model, start)
        scores = self.reward.scores(batch.image_ids, caption_BSL)
        counted_BSL = caption_BSL != PAD
        log_prob_N = self.log_probs(model, start, caption_BSL)
        advantage_BS = self.advantage(batch.image_ids, self.reward.total(scores), greedy_B1L)
        advantage_BSL = advantage_BS[..., None].expand(counted_BSL.shape)
        loss = -(advantage_BSL[counted_BSL] * log_prob_N).mean()
        return self.world.part(loss, len(log_prob_N)), self._report(scores, counted_BSL)

    def _report(self, scores: dict[str, Tensor], counted_BSL: Tensor) -> dict[str, float]:
        """The parts of this process in the mean reward and length of the samples, and in each reward."""
        samples = counted_BSL[..., 0].numel()
        length = counted_BSL.sum(-1).double().mean()
        means = {"reward": self.reward.total(scores).mean(), "length": length}
        if len(scores) > 1:
            means |= {name: score_BS.mean() for name, score_BS in scores.items()}
        # One wait for a device.
        each = torch.stack([mean.double() for mean in means.values()]).cpu()
        return dict(zip(means, self.world.part(each, samples, "samples").tolist(), strict=True))

    def _replay(self, model: Captioner, batch: Batch) -> tuple[Tensor, dict[str, float]]:
        """The same on a GPU, in three replays: drawing, rewards, loss. It is faster to encode twice there."""
        if self.replayed is None:
            self.replayed = (
                Replayed(partial(self._draw_all, model)),
                ReplayedLoss(partial(policy_loss, model), model),
            )
        draw, loss_of = self.replayed
        keys = () if self.draws is None else (self.draws.key_B,)
        caption_BSL = draw(batch.tokens_BTW, *keys)
        scores = self.reward.scores(batch.image_ids, caption_BSL)
        advantage_BS = self.advantage(batch.image_ids, self.reward.total(scores))
        loss = loss_of(batch.tokens_BTW, caption_BSL, advantage_BS)
        counted_BSL = caption_BSL != PAD
        return self.world.part(loss, counted_BSL.sum()), self._report(scores, counted_BSL)

    def _draw_all(self, model: Captioner, tokens_BTW: Tensor, key_B: Tensor | None = None) -> Tensor:
        if self.draws is not None and key_B is not None:
            self.draws.begin(key_B)
        return self.draw(model, model.encode(tokens_BTW).start, fixed_shapes=True)

    def draw(self, model: Captioner, start: DecoderState, fixed_shapes: bool = False) -> Tensor:
        """Samples from the encoded images, [B, S, L] int64."""
        return sample(
            model.step,
            start,
            len(start.layers[0].image_keys),
            num_samples=self.num_samples,
            max_length=self.max_length,
            exponential=None if self.draws is None else self.draws.exponential,
            fixed_shapes=fixed_shapes,
        )

    def greedy_captions(self, model: Captioner, start: DecoderState) -> Tensor | None:
        """The greedy caption of each image, [B, 1, L] int64, if the baseline asks for it."""
        if self.baseline != "greedy":
            return None
        return greedy(model.step, start, len(start.layers[0].image_keys), max_length=self.max_length)

    def advantage(self, image_ids: list[int], reward_BS: Tensor, greedy_B1L: Tensor | None = None) -> Tensor:
        """Reward minus baseline, [B, S]; `greedy_B1L`: the captions whose reward is the baseline."""
        if greedy_B1L is not None:
            return reward_BS - self.rewards(image_ids, greedy_B1L)
        if self.baseline == "mean":
            return reward_BS - reward_BS.mean(dim=1, keepdim=True)
        return leave_one_out_advantage(reward_BS)

    def weights(self, model: Captioner) -> dict[str, Tensor]:
        """The trained weights, without CLIP's frozen ones."""
        return model.checkpoint_tensors()

    def warning(self, model: Captioner, means: dict[str, float]) -> str | None:
        """Rewards of zero give no gradient; penalties alone say nothing of what to say."""
        gained = [name for name, part in self.reward.parts.items() if part.weight > 0]
        if any(means[name if len(self.reward.parts) > 1 else "reward"] > 0 for name in gained):
            return None
        return "no sampled caption had any reward: start from a network that XE has trained longer"

    def validation_warnings(
        self, means: dict[str, float], variety: Variety, before: dict[str, float]
    ) -> list[str]:
        """The network told images apart before: many captions should still differ. And its samples, which
        are all that training learns from, should not be much worse than what it says.
        """
        found = super().validation_warnings(means, variety, before)
        if fewer := variety.fewer_than(before.get("val_distinct", 0)):
            found = [fewer]
        sampled, likeliest = self._sampled_cider_d(means), before["val_CIDEr"]
        if sampled is not None and sampled < UNSURE * likeliest:
            found.append(
                f"sampled captions have CIDEr-D {sampled:.3g}, while the likeliest captions had "
                f"{likeliest:.3g} before this training: the network was unsure of its words, and such "
                "samples teach word pairs, not sentences; train XE longer (xe.epochs, lr) before SCST"
            )
        return found

    def _sampled_cider_d(self, means: dict[str, float]) -> float | None:
        """The mean CIDEr-D of the samples without its weight, if it is rewarded."""
        if "cider_d" not in self.reward.parts:
            return None
        several = len(self.reward.parts) > 1
        return means["cider_d"] if several else means["reward"] / self.reward.parts["cider_d"].weight

    def rewards(self, image_ids: list[int], caption_BSL: Tensor) -> Tensor:
        """The sum of the rewards of every sample, [B, S] float32 on the samples' device."""
        return self.reward.total(self.reward.scores(image_ids, caption_BSL))

    @staticmethod
    def log_probs(model: Captioner, start: DecoderState, caption_BSL: Tensor) -> Tensor:
        """Log-probability [N] of every sampled word, in one pass with gradient; padding has none."""
        counted_BSL = caption_BSL != PAD
        logits_NV, _ = model.decoder(preceding_words(caption_BSL), start, Packing.of(counted_BSL))
        return caption_log_probs(logits_NV, caption_BSL[counted_BSL])


def policy_loss(model: Captioner, tokens_BTW: Tensor, caption_BSL: Tensor, advantage_BS: Tensor) -> Tensor:
    """The loss of given samples, which are read with their padding: all shapes are fixed."""
    log_prob_BSL = caption_log_probs(model(tokens_BTW, preceding_words(caption_BSL)), caption_BSL)
    return -(advantage_BS[..., None] * log_prob_BSL).sum() / (caption_BSL != PAD).sum()


def leave_one_out_advantage(reward_BS: Tensor) -> Tensor:
    """Reward minus the mean reward of the image's other samples, [B, S]."""
    others_BS = (reward_BS.sum(dim=1, keepdim=True) - reward_BS) / (reward_BS.shape[1] - 1)
    return reward_BS - others_BS
