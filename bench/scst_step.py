"""A step of self-critical training beside the reference: 5 samples per image, 20 words.

    python -m bench.scst_step
    python -m bench.scst_step --device cuda --dtype bfloat16 --compile --batch 50 100 200 400

No caption of a network with random weights ends early, which is the worst case for us; the reference always
runs to the last position. "Captions that end" are ended as early as COCO's do. Dropout is off in both.
"""

from functools import partial

import torch
from torch import Tensor

from bench.limits import best_seconds, measure_limits
from bench.networks import Sizes, captioner_on_outputs, captioner_on_tail, random_batch, random_captions
from bench.options import Options, read_options
from bench.reference.network import reference_of
from bench.reference.training import reference_scst_step
from bench.rows import Row, publish
from bench.steps import RATE, Bench, coco_hours, training_step
from bench.timing import Work
from fsgr_model.inference.decoding import Step
from fsgr_model.network.captioner import Captioner
from fsgr_model.network.decoder import DecoderState
from fsgr_model.runtime.errors import run_command
from fsgr_model.scoring.cider_d import CiderD
from fsgr_model.scoring.document_frequencies import DocumentFrequencies
from fsgr_model.text.vocabulary import EOS, SPECIALS
from fsgr_model.training.batches import Batch
from fsgr_model.training.scst import SelfCritical

CPU_BATCHES = (10,)
# On a GPU the graph of a beam search over more images would not fit.
LARGEST_REFERENCE = 10
# Images whose captions the reward knows.
REWARDED_IMAGES = 2_000
REFERENCE = "the reference"
AIMS = {(REFERENCE, torch.float32): "at least 8 x", (REFERENCE, torch.bfloat16): "at least 10 x"}
# From this position on, a random network's captions are made to end, each with this chance at every word.
FIRST_END, END_LOGIT = 8, 8.3


def main(arguments: list[str] | None = None) -> None:
    options = read_options(__doc__, CPU_BATCHES, arguments)
    bench = Bench(options, measure_limits(options.device))
    publish("scst_step", measure(bench), bench.limits, options.device, out=options.out, page=options.page)


def measure(bench: Bench) -> list[Row]:
    """All rows: the step beside the reference, scoring, captions that end, adapters and prompts, hours."""
    sizes = bench.options.sizes
    task = SelfCritical(reward_of_random_captions(sizes), num_samples=sizes.captions, max_length=sizes.length)
    rows: list[Row] = []
    tuned: list[Row] = []
    for images in bench.options.batches:
        of_frozen = frozen_rows(bench, task, images)
        rows += [*of_frozen, scoring_row(bench, task, images, images / of_frozen[0].value)]
        rows += ending_rows(bench, task, images)
        tuned += tuned_rows(bench, task, images)
    return [
        *rows,
        *tuned,
        coco_hours("15 epochs of COCO, adapters and prompts", tuned),
    ]


def reward_of_random_captions(sizes: Sizes) -> CiderD:
    """CIDEr-D with reference captions of many images."""
    captions = random_captions(sizes, REWARDED_IMAGES)
    frequencies = DocumentFrequencies.build(captions, sizes.num_words)
    return CiderD(dict(enumerate(captions)), frequencies, end_token=True)


def frozen_rows(bench: Bench, task: SelfCritical, images: int) -> list[Row]:
    """The step on the outputs of a frozen tail, every caption of full length, and the reference's."""
    sizes = bench.options.sizes
    batch = random_batch(sizes, images, token_width=sizes.outputs_width, device=bench.options.device)
    ours = bench.ours(captioner_on_outputs, partial(training_step, task, batch))
    others = {REFERENCE: reference_step(bench.options, batch)} if images <= LARGEST_REFERENCE else {}
    return bench.rows(name_of(sizes, images), images, "images", ours, others=others, aims=AIMS)


def name_of(sizes: Sizes, images: int) -> str:
    return f"SCST step, {images} images x {sizes.captions} samples"


def reference_step(options: Options, batch: Batch) -> Work:
    """The reference's step on the same images."""
    sizes = options.sizes
    model = captioner_on_outputs(sizes, options.device)
    reference = reference_of(model, sizes.params(), vision_width=sizes.grid_width, side=sizes.side)
    optimiser = torch.optim.Adam(reference.parameters(), RATE)
    captions = random_captions(sizes, len(batch.image_ids))
    seen = model.tail(batch.tokens_BTW)
    step = partial(reference_scst_step, reference, optimiser, seen, captions)
    return partial(step, samples=sizes.captions, max_length=sizes.length)


def scoring_row(bench: Bench, task: SelfCritical, images: int, step_seconds: float) -> Row:
    """What the rewards of a step take, as a share of the step in the first precision."""
    sizes, device = bench.options.sizes, bench.options.device
    shape = (images, sizes.captions, sizes.length)
    caption_BSL = torch.randint(len(SPECIALS), sizes.num_words, shape, device=device)
    seconds = best_seconds(lambda: task.rewards(list(range(images)), caption_BSL), device)
    share = seconds / step_seconds
    return Row(f"its scoring, {images} images", 1000 * seconds, "ms", share, "the step", aim="below 1%")


def ending_rows(bench: Bench, task: SelfCritical, images: int) -> list[Row]:
    """The same step where captions end."""
    sizes = bench.options.sizes
    batch = random_batch(sizes, images, token_width=sizes.outputs_width, device=bench.options.device)
    ours = bench.ours(captioner_with_ends, partial(training_step, task, batch))
    return bench.rows(f"{name_of(sizes, images)} that end", images, "images", ours, others={}, aims={})


def captioner_with_ends(sizes: Sizes, device: torch.device) -> Captioner:
    """A network whose sampled captions are as long as COCO's, about 11 words."""
    model = captioner_on_outputs(sizes, device)
    step: Step = model.step

    def ending_step(word_BS: Tensor, state: DecoderState) -> tuple[Tensor, DecoderState]:
        logits_BSV, state = step(word_BS, state)
        if state.position > FIRST_END:
            logits_BSV[..., EOS] = END_LOGIT
        return logits_BSV, state

    model.step = ending_step  # type: ignore[method-assign]
    return model


def tuned_rows(bench: Bench, task: SelfCritical, images: int) -> list[Row]:
    """The step with adapters and prompts in CLIP's tail."""
    sizes = bench.options.sizes
    batch = random_batch(sizes, images, token_width=sizes.clip_width, device=bench.options.device)
    ours = bench.ours(captioner_on_tail, partial(training_step, task, batch))
    what = f"{name_of(sizes, images)}, adapters and prompts"
    return bench.rows(what, images, "images", ours, others={}, aims={})


if __name__ == "__main__":
    run_command(main)
