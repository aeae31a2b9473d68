"""Steps of our own code in every variant, timed in turns with what they are compared with, as rows."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import torch

from bench.limits import Limits, Product, elapsed, large_product
from bench.networks import Sizes
from bench.options import Options, Variant
from bench.rows import Row
from bench.timing import Work, in_turns, matmul_flops, precision
from fsgr_model.network.captioner import Captioner
from fsgr_model.training.batches import Batch
from fsgr_model.training.optimiser import Optimiser
from fsgr_model.training.task import Step, Task

# So small that the network stays what it is.
RATE = 1e-9
COCO_IMAGES, COCO_EPOCHS = 113_287, 15
LIMIT_SECONDS = 0.2


def training_step(task: Task[Batch], batch: Batch, model: Captioner, dtype: torch.dtype) -> Work:
    """What the training loop does with a batch: loss, gradients, clipping, Adam."""
    optimiser = Optimiser(model, "adam", RATE, weight_decay=0.0)

    def step() -> None:
        model.train(task.uses_dropout)
        with precision(batch.tokens_BTW.device, dtype):
            loss, _ = task.loss(model, batch, Step(0, 1, 0))
        loss.backward()
        optimiser.clip_gradients(optimiser.gradient_norm().item(), max_norm=1.0)
        optimiser.step()

    return step


@dataclass(frozen=True)
class Bench:
    """What a benchmark is run with, and the limits that were measured in the same run.

    `trained`: our network is as the training stages have it, not as the captions stage does.
    """

    options: Options
    limits: Limits
    trained: bool = True

    def ours(
        self,
        build: Callable[[Sizes, torch.device], Captioner],
        work: Callable[[Captioner, torch.dtype], Work],
    ) -> dict[Variant, Work]:
        """The same work for every variant, each on a network of its own."""
        options = self.options
        return {
            variant: work(variant.prepare(build(options.sizes, options.device), self.trained), variant.dtype)
            for variant in options.variants
        }

    def rows(
        self,
        what: str,
        items: int,
        unit: str,
        ours: Mapping[Variant, Work],
        *,
        others: Mapping[str, Work],
        aims: Mapping[tuple[str, torch.dtype], str],
    ) -> list[Row]:
        """A row for each of ours and each of `others`, in float32, that it is compared with; then theirs.

        The share of the limit is that of large products that were timed in the same turns.

        Args:
            items: how many `unit` a piece of work gets done.
            aims: what was to be reached, by the name of the other and our precision.
        """
        flops = matmul_flops(next(iter(ours.values())))
        for work in ours.values():
            work()
        named = {str(variant): work for variant, work in ours.items()}
        limits = {variant.dtype: self._products(variant.dtype) for variant in ours}
        timed_limits = {f"limit of {dtype}": products.run for dtype, products in limits.items()}
        seconds = in_turns({**named, **others, **timed_limits}, self.options.rounds, self.options.device)
        rows = []
        for variant in ours:
            own, products = seconds[str(variant)], limits[variant.dtype]
            share = flops / own / (products.flops / seconds[f"limit of {variant.dtype}"])
            row = Row(f"{what}, {variant}", items / own, f"{unit}/s", share, "matmul")
            compared = [
                replace(row, ratio=seconds[name] / own, than=name, aim=aims.get((name, variant.dtype), ""))
                for name in others
            ]
            rows += compared or [row]
        return rows + [Row(f"{what}: {name}", items / seconds[name], f"{unit}/s") for name in others]

    def _products(self, dtype: torch.dtype) -> Product:
        """Large products by whatever multiplies this dtype fastest here, a fifth of a second long at most."""
        device = self.options.device
        once = large_product(device, dtype, dtype == torch.float32 and self.limits.onednn_wins)
        times = max(1, round(LIMIT_SECONDS / elapsed(once.run, device)))

        def run() -> None:
            for _ in range(times):
                once.run()

        return Product(run, times * once.flops)


def coco_hours(what: str, rows: list[Row], items_per_image: int = 1) -> Row:
    """Hours of 15 epochs over COCO's training images, by the fastest of these rows but for the others'."""
    fastest = max(row.value for row in rows if row.fraction is not None) / items_per_image
    return Row(what, COCO_EPOCHS * COCO_IMAGES / fastest / 3600, "hours")
