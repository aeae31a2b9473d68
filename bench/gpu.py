"""What replays, PyTorch's own attention and TF32 are worth on a GPU; for a machine with CUDA.

    python -m bench.gpu

The networks and batches are COCO's in size, with random weights, training in bf16. Steps are timed in turns
with the same steps as they were before.
"""

import contextlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from bench.destination import parser_of
from bench.limits import best_seconds, elapsed, measure_limits
from bench.networks import COCO, captioner_on_outputs, random_batch
from bench.rows import Row, publish
from bench.scst_step import captioner_with_ends, reward_of_random_captions
from bench.steps import training_step
from bench.timing import Work, in_turns
from fsgr_model.clip.loading import build_model
from fsgr_model.clip.towers import AnyTail, make_tail, make_trunk
from fsgr_model.kernels.attention import avoid_plans
from fsgr_model.runtime.device import tf32_products
from fsgr_model.runtime.errors import UserError, run_command
from fsgr_model.scoring.cider_d import CiderD
from fsgr_model.scoring.device_cider_d import DeviceCiderD
from fsgr_model.text.vocabulary import SPECIALS
from fsgr_model.training.batches import Batch
from fsgr_model.training.scst import SelfCritical
from fsgr_model.training.task import Task
from fsgr_model.training.xe import CrossEntropy

PAGE = Path("docs/experiments/gpu.md")
BATCHES = (20, 50, 200)
ROUNDS = 7
DTYPE = torch.bfloat16
CUT, CONCEPTS, IMAGES = 6, 4_585, 256
HALF = {"fp16 autocast": torch.float16, "bf16 autocast": torch.bfloat16}
NEW_SHAPES = 12


def main() -> None:
    parser = parser_of(__doc__)
    parser.set_defaults(page=PAGE)
    given = parser.parse_args()
    if not torch.cuda.is_available():
        raise UserError("bench.gpu measures a GPU, and PyTorch sees none here")
    device = torch.device("cuda")
    limits = measure_limits(device)
    rows = [*plan_rows(device)]
    avoid_plans()
    rows += [*step_rows(device), cider_row(device), *extraction_rows(device)]
    publish("gpu", rows, limits, device, out=given.out, page=given.page)


def plan_rows(device: torch.device) -> Iterator[Row]:
    """Attention on a batch of 20 images whose captions are one word longer each time, with gradients."""
    for name, cudnn in (("cuDNN's", True), ("PyTorch's own", False)):
        torch.backends.cuda.enable_cudnn_sdp(cudnn)
        seconds = [elapsed(partial(attend, length, device), device) for length in range(40, 40 + NEW_SHAPES)]
        middle = sorted(seconds)[NEW_SHAPES // 2]
        yield Row(f"attention in bf16, a new shape, {name} kernels", 1000 * middle, "ms")


def attend(length: int, device: torch.device) -> None:
    """Masked self-attention and its gradient."""
    query = torch.randn(20, 8, length, 64, device=device, dtype=torch.bfloat16, requires_grad=True)
    sees_LL = torch.ones(length, length, dtype=torch.bool, device=device).tril()
    F.scaled_dot_product_attention(query, query, query, attn_mask=sees_LL).sum().backward()


def step_rows(device: torch.device) -> Iterator[Row]:
    """XE and SCST steps, replayed and plain."""
    reward = reward_of_random_captions(COCO)
    for images in BATCHES:
        batch = random_batch(COCO, images, token_width=COCO.outputs_width, device=device)
        for name, build in (("XE", captioner_on_outputs), ("SCST", captioner_with_ends)):
            works: dict[str, Work] = {
                way: training_step(
                    task_of(name, reward, way == "replayed"), batch, build(COCO, device), DTYPE
                )
                for way in ("plain", "replayed")
            }
            for work in works.values():
                for _ in range(3):
                    work()
            seconds = in_turns(works, ROUNDS, device)
            ratio = seconds["plain"] / seconds["replayed"]
            what = f"{name} step, {images} images x {COCO.captions}"
            yield Row(what, 1000 * seconds["replayed"], "ms", ratio=ratio, than="launched one by one")


def task_of(name: str, reward: CiderD, replays: bool) -> Task[Batch]:
    """The task whose steps are timed."""
    task: Task[Batch] = (
        CrossEntropy()
        if name == "XE"
        else SelfCritical(reward, num_samples=COCO.captions, max_length=COCO.length)
    )
    task.replays = replays
    return task


def cider_row(device: torch.device) -> Row:
    """CIDEr-D of 500 captions that are on the GPU."""
    scorer = DeviceCiderD(reward_of_random_captions(COCO), device)
    caption_NL = torch.randint(len(SPECIALS), COCO.num_words, (500, COCO.length), device=device)
    image_ids = [number // COCO.captions for number in range(500)]
    score = partial(scorer.score, caption_NL, image_ids)
    score()
    return Row("CIDEr-D of 500 captions", 1000 * best_seconds(score, device), "ms", aim="under 2 ms")


def extraction_rows(device: torch.device) -> Iterator[Row]:
    """The trunk of ViT-B/16 below block 6, and label maps from its tokens, in four precisions."""
    torch.manual_seed(0)
    clip = build_model(COCO.clip, "ViT-B-16").eval().to(device)
    trunk, tail = make_trunk(clip, CUT), make_tail(clip, CUT, "qk_kk")
    image = torch.randn(IMAGES, 3, COCO.image_size, COCO.image_size, device=device)
    codebook_KE = F.normalize(torch.randn(CONCEPTS, tail.joint_width, device=device), dim=-1)
    with torch.inference_mode():
        with exact():
            true = trunk(image)
            token = true.half().float()
            true_label = label(tail, token, codebook_KE)
        for name, way in ways(device).items():
            with way():
                error = ((trunk(image).float() - true).norm() / true.norm()).item()
                same = (label(tail, token, codebook_KE) == true_label).float().mean().item()
                trunk_rate = IMAGES / best_seconds(partial(trunk, image), device)
                label_rate = IMAGES / best_seconds(partial(label, tail, token, codebook_KE), device)
            yield Row(f"trunk, {name}: relative error {error:.1e}", trunk_rate, "images/s")
            yield Row(f"label maps, {name}: {same:.2%} the same labels", label_rate, "images/s")


def label(tail: AnyTail, token_BTW: Tensor, codebook_KE: Tensor) -> Tensor:
    """The most similar concept of every patch, [B, G] int64."""
    return (F.normalize(tail.aligned(token_BTW), dim=-1) @ codebook_KE.T).argmax(dim=-1)


def ways(device: torch.device) -> dict[str, Callable[[], AbstractContextManager[Any]]]:
    """A context for each precision."""
    half = {name: partial(torch.autocast, "cuda", dtype=dtype) for name, dtype in HALF.items()}
    return {"float32": exact, "TF32": partial(tf32_products, device), **half}


@contextlib.contextmanager
def exact() -> Iterator[None]:
    """float32 throughout, the convolution of the patches too."""
    before, torch.backends.cudnn.allow_tf32 = torch.backends.cudnn.allow_tf32, False
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32 = before


if __name__ == "__main__":
    run_command(main)
