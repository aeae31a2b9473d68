"""A step of cross-entropy training beside the reference, and what adapters and prompts in CLIP's tail cost.

    python -m bench.xe_step
    python -m bench.xe_step --device cuda --dtype bfloat16 --compile --batch 50 100 200 400

"Frozen tail": the outputs of CLIP's tail are given. "Adapters and prompts": from the cached tokens at block 6
on, with an adapter and 100 prompts in each of the blocks 6 to 11.
"""

from functools import partial

import torch

from bench.limits import measure_limits
from bench.networks import captioner_on_outputs, captioner_on_tail, captioner_on_whole_clip, random_batch
from bench.options import Options, read_options
from bench.reference.network import reference_of
from bench.reference.training import reference_xe_step
from bench.rows import Row, publish
from bench.steps import RATE, Bench, coco_hours, training_step
from bench.timing import Work, precision
from fsgr_model.network.captioner import Captioner
from fsgr_model.runtime.errors import run_command
from fsgr_model.training.batches import Batch
from fsgr_model.training.xe import CrossEntropy

CPU_BATCHES = (2, 10)
# On a CPU more would take minutes; on a GPU its memory would not do.
LARGEST_REFERENCE, LARGEST_WHOLE_CLIP = 10, 2
REFERENCE, WHOLE_CLIP = "the reference", "whole CLIP"
AIMS = {(REFERENCE, torch.float32): "at least 4.5 x", (REFERENCE, torch.bfloat16): "at least 6 x"}
# 55% of the time, as a ratio of rates.
TUNED_AIMS = {(WHOLE_CLIP, torch.float32): "at least 1.82 x"}


def main(arguments: list[str] | None = None) -> None:
    options = read_options(__doc__, CPU_BATCHES, arguments)
    bench = Bench(options, measure_limits(options.device))
    publish("xe_step", measure(bench), bench.limits, options.device, out=options.out, page=options.page)


def measure(bench: Bench) -> list[Row]:
    """All rows: the step on a frozen tail, its encoder alone, the step with adapters and prompts, hours."""
    frozen, encoder, tuned = [], [], []
    for images in bench.options.batches:
        frozen += frozen_rows(bench, images)
        encoder += encoder_rows(bench, images)
        tuned += tuned_rows(bench, images)
    captions = bench.options.sizes.captions
    hours = [
        coco_hours("15 epochs of COCO, frozen tail", frozen, captions),
        coco_hours("15 epochs of COCO, adapters and prompts", tuned, captions),
    ]
    return [*frozen, *encoder, *tuned, *hours]


def frozen_rows(bench: Bench, images: int) -> list[Row]:
    """The step on the outputs of a frozen tail, and the reference's step on the same captions."""
    sizes = bench.options.sizes
    batch = random_batch(sizes, images, token_width=sizes.outputs_width, device=bench.options.device)
    ours = bench.ours(captioner_on_outputs, partial(training_step, CrossEntropy(), batch))
    others = {REFERENCE: reference_step(bench.options, batch)} if images <= LARGEST_REFERENCE else {}
    what = f"XE step, {images} images x {sizes.captions} captions"
    return bench.rows(what, images * sizes.captions, "captions", ours, others=others, aims=AIMS)


def reference_step(options: Options, batch: Batch) -> Work:
    """The reference's step; every caption with the features of its image beside it."""
    sizes = options.sizes
    model = captioner_on_outputs(sizes, options.device)
    seen = model.tail(batch.tokens_BTW.repeat_interleave(sizes.captions, dim=0))
    reference = reference_of(model, sizes.params(), vision_width=sizes.grid_width, side=sizes.side)
    optimiser = torch.optim.Adam(reference.parameters(), RATE)
    return partial(reference_xe_step, reference, optimiser, seen, batch.caption_BSL.flatten(0, 1))


def encoder_rows(bench: Bench, images: int) -> list[Row]:
    """Encoding alone, with gradients: from the tail's outputs to the keys and values that words look at."""
    sizes = bench.options.sizes
    batch = random_batch(sizes, images, token_width=sizes.outputs_width, device=bench.options.device)
    ours = bench.ours(captioner_on_outputs, partial(encoding, batch))
    return bench.rows(f"its encoder, {images} images", images, "images", ours, others={}, aims={})


def encoding(batch: Batch, model: Captioner, dtype: torch.dtype) -> Work:
    """The encoder, forward and backward."""

    def work() -> None:
        model.train()
        with precision(batch.tokens_BTW.device, dtype):
            layers = model.encode(batch.tokens_BTW).start.layers
        outputs = [x for layer in layers for x in (layer.image_keys, layer.image_values)]
        torch.autograd.backward(outputs, [torch.ones_like(x) for x in outputs])
        model.zero_grad(set_to_none=True)

    return work


def tuned_rows(bench: Bench, images: int) -> list[Row]:
    """The step with adapters and prompts from the cut on, and with the whole of CLIP run from pixels."""
    sizes, device = bench.options.sizes, bench.options.device
    batch = random_batch(sizes, images, token_width=sizes.clip_width, device=device)
    ours = bench.ours(captioner_on_tail, partial(training_step, CrossEntropy(), batch))
    others = {}
    if images <= LARGEST_WHOLE_CLIP:
        pixels = torch.randn(images, 3, sizes.image_size, sizes.image_size, device=device)
        of_pixels = Batch(batch.image_ids, pixels, batch.caption_BSL)
        whole = captioner_on_whole_clip(sizes, device)
        others = {WHOLE_CLIP: training_step(CrossEntropy(), of_pixels, whole, torch.float32)}
    what = f"XE step with adapters and prompts, {images} images x {sizes.captions} captions"
    return bench.rows(what, images * sizes.captions, "captions", ours, others=others, aims=TUNED_AIMS)


if __name__ == "__main__":
    run_command(main)
