"""What each reward takes of a step of self-critical training: 5 samples per image, COCO's sizes.

    python -m bench.reward_share
    python -m bench.reward_share --device cuda --dtype bfloat16 --batch 20 100

The step is rewarded with CIDEr-D alone, on the outputs of a frozen tail; captions end as early as COCO's do.
Its own samples are scored by every reward. CLIP's text tower is ViT-B/16's, with random weights, and every
word is one token. What CLIP needs for images is paid once, before training. On a CPU, seconds of one thread
are counted, in which other programs have no part.
"""

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F

from bench.limits import best_seconds, measure_limits
from bench.networks import Sizes, random_batch, random_captions
from bench.options import Options, read_options
from bench.rows import Row, publish
from bench.scst_step import REWARDED_IMAGES, captioner_with_ends, reward_of_random_captions
from bench.steps import Bench, training_step
from fsgr_model.clip.loading import Clip
from fsgr_model.clip.model_building import build_model, build_tokenizer
from fsgr_model.runtime.errors import run_command
from fsgr_model.scoring.caption_faults import BadEndings, Repetition
from fsgr_model.scoring.clip_reward import ClipReward, RefClipReward
from fsgr_model.scoring.coco_synonyms import COCO_SYNONYMS
from fsgr_model.scoring.sentence_bleu import SentenceBleu
from fsgr_model.scoring.sentence_chair import SentenceChair
from fsgr_model.text.caption_table import CaptionTable, WordTable
from fsgr_model.text.vocabulary import BOS, EOS, SPECIALS, Vocabulary
from fsgr_model.training.rewards import Reward, RewardSum, Weighted
from fsgr_model.training.scst import SelfCritical

PAGE = Path("docs/experiments/rewards.md")
CPU_BATCHES = (10,)
TRIES = 3
WORD_REWARDS = ("cider_d", "bleu4", "chair", "repetition", "bad_endings")


def main(arguments: list[str] | None = None) -> None:
    options = read_options(__doc__, CPU_BATCHES, arguments)
    torch.set_num_threads(1)
    bench = Bench(options, measure_limits(options.device))
    page = PAGE if options.page else None
    publish("reward_share", measure(bench), bench.limits, options.device, out=options.out, page=page)


def measure(bench: Bench) -> list[Row]:
    """For each batch size: the step, each reward, and those of words together."""
    rewards = all_rewards(bench.options)
    return [row for images in bench.options.batches for row in share_rows(bench, rewards, images)]


def share_rows(bench: Bench, rewards: RewardSum, images: int) -> list[Row]:
    """The step with CIDEr-D alone, then what each reward takes, as a share of it."""
    options, sizes, device = bench.options, bench.options.sizes, bench.options.device
    cider_d = RewardSum({"cider_d": rewards.parts["cider_d"]})
    task = SelfCritical(cider_d, num_samples=sizes.captions, max_length=sizes.length)
    batch = random_batch(sizes, images, token_width=sizes.outputs_width, device=device)
    variant = options.variants[0]
    model = variant.prepare(captioner_with_ends(sizes, device), trained=True)
    step = fastest(training_step(task, batch, model, variant.dtype), device)
    what = f"SCST step, {images} images x {sizes.captions} samples, {variant}"
    rows = [Row(what, 1000 * step, "ms")]
    with torch.no_grad():
        caption_BSL = task.draw(model, model.encode(batch.tokens_BTW).start)
    for names, aim in [*(((name,), "") for name in rewards.parts), (WORD_REWARDS, "below 3%")]:
        some = RewardSum({name: rewards.parts[name] for name in names})
        seconds = fastest(partial(score, some, batch.image_ids, caption_BSL), device)
        label = " + ".join(names)
        rows.append(Row(f"{label}: {1000 * seconds:.2f} ms", 100 * seconds / step, "% of the step", aim=aim))
    return rows


def fastest(run: Callable[[], object], device: torch.device) -> float:
    """Seconds of the fastest of a few tries, after one that is not counted."""
    if device.type != "cpu":
        return best_seconds(run, device)
    run()
    taken = []
    for _ in range(TRIES):
        start = time.process_time()
        run()
        taken.append(time.process_time() - start)
    return min(taken)


def score(rewards: RewardSum, image_ids: list[int], caption_BSL: torch.Tensor) -> None:
    """Score samples; CLIP forgets what it read in the last step."""
    for part in rewards.parts.values():
        clip = part.reward.clip_reward if isinstance(part.reward, RefClipReward) else part.reward
        if isinstance(clip, ClipReward):
            clip.embed_samples.cache_clear()
    rewards.scores(image_ids, caption_BSL)


def all_rewards(options: Options) -> RewardSum:
    """Every reward on made-up captions of many images."""
    sizes = options.sizes
    captions = random_captions(sizes, REWARDED_IMAGES)
    clip = clip_of(sizes, options.device)
    vocabulary = Vocabulary(words_of(clip, sizes.num_words))
    table = CaptionTable.of(dict(enumerate(captions)))
    spoken = {
        image_id: [[vocabulary.words[word] for word in caption if word not in (BOS, EOS)] for caption in of]
        for image_id, of in enumerate(captions)
    }
    tokens = WordTable.of(spoken)
    image_AE = F.normalize(torch.randn(len(captions), sizes.joint_width), dim=-1)
    clip_score = ClipReward(clip, vocabulary, list(tokens), image_AE=image_AE)
    rewards: dict[str, Reward] = {
        "cider_d": reward_of_random_captions(sizes),
        "bleu4": SentenceBleu(table, sizes.num_words, end_token=True),
        "chair": SentenceChair(made_up_instances(len(captions)), tokens, vocabulary),
        "repetition": Repetition(sizes.num_words),
        "bad_endings": BadEndings(vocabulary),
        "clip_score": clip_score,
        "ref_clip_score": RefClipReward(clip_score, tokens),
    }
    return RewardSum({name: Weighted(1.0, reward) for name, reward in rewards.items()})


def clip_of(sizes: Sizes, device: torch.device) -> Clip:
    """A CLIP with random weights; only its text side is used."""
    model = build_model(sizes.clip, "bench").eval().requires_grad_(False).to(device)
    return Clip(model, lambda image: torch.zeros(3, 1, 1), sizes.clip, {})


def words_of(clip: Clip, count: int) -> list[str]:
    """The special words and whole words of CLIP's tokenizer, those of COCO's objects among them."""
    tokenizer: Any = build_tokenizer(clip.config)
    whole = [piece.removesuffix("</w>") for piece in tokenizer.encoder if piece.endswith("</w>")]
    plain = [word for word in whole if word.isalpha() and word.isascii()]
    return [*SPECIALS, *dict.fromkeys(plain)][:count]


def made_up_instances(images: int) -> dict[str, list[dict]]:
    """Three objects of COCO's categories in each image."""
    categories = [{"id": number, "name": name} for number, name in enumerate(COCO_SYNONYMS, start=1)]
    annotations = [
        {"image_id": image, "category_id": 1 + (7 * image + place) % len(categories)}
        for image in range(images)
        for place in range(3)
    ]
    return {"categories": categories, "annotations": annotations}


if __name__ == "__main__":
    run_command(main)
