"""Self-critical sequence training (Rennie et al., arXiv 1612.00563) with several samples per image.

The baseline of a sample is the mean reward of the image's other samples (Luo, arXiv 2003.09971).
Dropout is off in both passes, so the captions are drawn from the same distribution that is scored.

Shapes: B images, S samples per image, L positions, V words, N words that count.
"""

from functools import partial
from types import MappingProxyType

import torch
from torch import Tensor, nn

from fsgr_model.inference.decoding import caption_log_probs, preceding_words, sample
from fsgr_model.kernels.cuda_graphs import Replayed, ReplayedLoss
from fsgr_model.network.captioner import Captioner
from fsgr_model.network.decoder import DecoderState
from fsgr_model.network.packing import Packing
from fsgr_model.runtime.world import ALONE, World
from fsgr_model.scoring.cider_d import CiderD, CiderDByBatch
from fsgr_model.scoring.device_cider_d import DeviceCiderD
from fsgr_model.text.vocabulary import PAD
from fsgr_model.training.batches import Batch
from fsgr_model.training.task import Step, Task


class SelfCritical(Task[Batch]):
    """Policy gradient on CIDEr-D."""

    name, section = "SCST", "scst"
    uses_dropout = False
    can_be_cut = True
    counted = MappingProxyType({"reward": "samples", "length": "samples"})

    def __init__(
        self,
        reward: CiderD | CiderDByBatch,
        *,
        num_samples: int,
        max_length: int,
        world: World = ALONE,
    ) -> None:
        self.world = world
        self.heads = nn.Module()
        self.reward = reward
        self.on_device: DeviceCiderD | None = None
        self.replayed: tuple[Replayed, ReplayedLoss] | None = None
        self.num_samples = num_samples
        self.max_length = max_length

    def loss(self, model: Captioner, batch: Batch, step: Step) -> tuple[Tensor, dict[str, float]]:
        """Mean over all sampled words (end tokens counted) of -(reward - baseline) * log-probability.

        Returns:
            the loss (scalar, float32), and the mean reward and length of the samples.
        """
        if self.replays and batch.tokens_BTW.is_cuda and batch.image_ids:
            return self._replay(model, batch)
        # Without dropout an image is encoded alike for drawing and for scoring, so it is encoded once.
        start = model.encode(batch.tokens_BTW).start
        with torch.no_grad():
            caption_BSL = self.draw(model, start)
        reward_BS = self.rewards(batch.image_ids, caption_BSL)
        counted_BSL = caption_BSL != PAD
        log_prob_N = self.log_probs(model, start, caption_BSL)
        advantage_BSL = leave_one_out_advantage(reward_BS)[..., None].expand(counted_BSL.shape)
        loss = -(advantage_BSL[counted_BSL] * log_prob_N).mean()
        samples = reward_BS.numel()
        words = len(log_prob_N) / max(samples, 1)
        return self.world.part(loss, len(log_prob_N)), self._report(reward_BS.mean().item(), words, samples)

    def _report(self, reward: float, length: float, samples: int) -> dict[str, float]:
        """The parts of this process in the mean reward and length of so many samples."""
        of_all = self.world.part(torch.tensor([reward, length], dtype=torch.float64), samples, "samples")
        return dict(zip(["reward", "length"], of_all.tolist(), strict=True))

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
        reward_BS = self.rewards(batch.image_ids, caption_BSL)
        loss = loss_of(batch.tokens_BTW, caption_BSL, leave_one_out_advantage(reward_BS))
        reward, length = torch.stack([reward_BS.mean(), (caption_BSL != PAD).sum(-1).float().mean()]).tolist()
        return self.world.part(loss, (caption_BSL != PAD).sum()), self._report(
            reward, length, reward_BS.numel()
        )

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

    def weights(self, model: Captioner) -> dict[str, Tensor]:
        """The trained weights, without CLIP's frozen ones."""
        return model.checkpoint_tensors()

    def warning(self, model: Captioner, means: dict[str, float]) -> str | None:
        """Rewards of zero give no gradient."""
        if means["reward"] > 0:
            return None
        return "no sampled caption had any reward: start from a network that XE has trained longer"

    def rewards(self, image_ids: list[int], caption_BSL: Tensor) -> Tensor:
        """CIDEr-D of every sample against its image's references, [B, S] float32 on the samples' device.

        Captions on a CUDA device are scored there.
        """
        S = caption_BSL.shape[1]
        caption_NL = caption_BSL.flatten(0, 1)
        image_of_row = [image_id for image_id in image_ids for _ in range(S)]
        if caption_NL.is_cuda:
            if self.on_device is None:
                scorer = self.reward if isinstance(self.reward, CiderD) else self.reward.prepared()
                self.on_device = DeviceCiderD(scorer, caption_NL.device)
            score_N = self.on_device.score(caption_NL, image_of_row)
        else:
            scores = self.reward.score(caption_NL.cpu().numpy(), image_of_row)
            score_N = torch.from_numpy(scores).to(caption_NL.device, torch.float32)
        return score_N.view(-1, S).float()

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
