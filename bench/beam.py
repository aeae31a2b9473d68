"""Captions by beam search beside the reference and Hugging Face transformers: 5 beams, 20 words.

    python -m bench.beam
    python -m bench.beam --device cuda --dtype bfloat16 --compile --batch 50 100 200 400

Encoding is counted. There are two references: one reads all words of a caption again at every step, the
other keeps what its layers have read and projects that again. The transformers model is BART's
encoder-decoder with as many layers, heads, words and patches, and with random weights as well; its `generate`
keeps keys and values as ours does.
"""

from dataclasses import replace
from functools import partial

import torch

from bench.limits import measure_limits
from bench.networks import Sizes, captioner_on_outputs, random_batch
from bench.options import Options, read_options
from bench.reference.network import reference_of
from bench.reference.search import ReferenceStep
from bench.reference.search import beam_search as reference_beam_search
from bench.rows import Row, publish
from bench.steps import Bench
from bench.timing import Work, precision
from fsgr_model.inference.beam_search import beam_search
from fsgr_model.network.captioner import Captioner
from fsgr_model.runtime.errors import run_command
from fsgr_model.text.vocabulary import BOS, EOS, PAD
from fsgr_model.training.batches import Batch

# 50 is runtime.caption_batch; the references are slow, and are compared at 10.
CPU_BATCHES = (10, 50)
LARGEST_REFERENCE = 10
BEAMS = 5
NO_CACHE, INPUTS_KEPT = "the reference without a cache", "the reference that keeps inputs"
TRANSFORMERS = "transformers"
AIMS = {
    (NO_CACHE, torch.float32): "at least 12 x",
    (TRANSFORMERS, torch.float32): "at least 2 x",
}


def main(arguments: list[str] | None = None) -> None:
    options = read_options(__doc__, CPU_BATCHES, arguments)
    bench = Bench(options, measure_limits(options.device))
    publish("beam", measure(bench), bench.limits, options.device, out=options.out, page=options.page)


def measure(bench: Bench) -> list[Row]:
    """All rows, a batch size after the other."""
    return [row for images in bench.options.batches for row in rows_of(bench, images)]


def rows_of(bench: Bench, images: int) -> list[Row]:
    """The search over one batch of images."""
    sizes, device = bench.options.sizes, bench.options.device
    batch = random_batch(sizes, images, token_width=sizes.outputs_width, device=device)
    bench = replace(bench, trained=False)
    ours = bench.ours(captioner_on_outputs, partial(search, sizes, batch))
    others = {TRANSFORMERS: transformers_search(bench.options, images)}
    if images <= LARGEST_REFERENCE:
        others = {**reference_searches(bench.options, batch), **others}
    return bench.rows(
        f"beam search {BEAMS}, {images} images", images, "images", ours, others=others, aims=AIMS
    )


def search(sizes: Sizes, batch: Batch, model: Captioner, dtype: torch.dtype) -> Work:
    """Encode the images and search their captions."""
    model.eval()

    @torch.no_grad()
    def work() -> None:
        with precision(batch.tokens_BTW.device, dtype):
            start = model.encode(batch.tokens_BTW).start
            beam_search(model.step, start, len(batch.image_ids), beam_size=BEAMS, max_length=sizes.length)

    return work


def reference_searches(options: Options, batch: Batch) -> dict[str, Work]:
    """Both references' searches over the same images."""
    sizes = options.sizes
    model = captioner_on_outputs(sizes, options.device)
    reference = reference_of(model, sizes.params(), vision_width=sizes.grid_width, side=sizes.side).eval()
    seen = model.tail(batch.tokens_BTW)

    @torch.no_grad()
    def work(step: ReferenceStep) -> None:
        reference_beam_search(reference, step, reference.encode(*seen), BEAMS, max_length=sizes.length)

    return {NO_CACHE: partial(work, reference.step_again), INPUTS_KEPT: partial(work, reference.step)}


def transformers_search(options: Options, images: int) -> Work:
    """`generate` of a BART of equal size, on as many patches."""
    from transformers import BartConfig, BartForConditionalGeneration

    sizes = options.sizes
    config = BartConfig(
        vocab_size=sizes.num_words,
        d_model=sizes.d_model,
        encoder_layers=sizes.encoder_layers,
        decoder_layers=sizes.decoder_layers,
        encoder_attention_heads=sizes.num_heads,
        decoder_attention_heads=sizes.num_heads,
        encoder_ffn_dim=sizes.d_ff,
        decoder_ffn_dim=sizes.d_ff,
        pad_token_id=PAD,
        bos_token_id=BOS,
        eos_token_id=EOS,
        decoder_start_token_id=BOS,
        forced_eos_token_id=None,
    )
    model = BartForConditionalGeneration(config).eval().to(options.device)
    patch_BGD = torch.randn(images, sizes.side**2, sizes.d_model, device=options.device)
    limits = {"max_new_tokens": sizes.length, "min_new_tokens": sizes.length}

    @torch.no_grad()
    def work() -> None:
        model.generate(inputs_embeds=patch_BGD, num_beams=BEAMS, do_sample=False, **limits)

    return work


if __name__ == "__main__":
    run_command(main)
