"""CIDEr-D as the reward of self-critical training: captions per second, on one core or on the GPU.

    python -m bench.cider --captions annotations/captions_val2014.json

It scores human captions in which one word in five was replaced, five per image, against all captions of the
image. Without --captions, words are drawn as unevenly as a language's. The document frequencies are those of
as many captions as COCO's training split has, made in the same way.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from pycocoevalcap.cider.cider import Cider

from bench.destination import parser_of
from bench.limits import Limits, best_seconds, elapsed, measure_limits
from bench.rows import Row, publish
from fsgr_model.runtime.artifacts import load_json
from fsgr_model.runtime.device import pick_device
from fsgr_model.runtime.errors import run_command
from fsgr_model.scoring.cider_d import CiderD
from fsgr_model.scoring.device_cider_d import DeviceCiderD
from fsgr_model.scoring.document_frequencies import DocumentFrequencies
from fsgr_model.text.ptb_tokenizer import ptb_tokenize
from fsgr_model.text.vocabulary import EOS, PAD, SPECIALS

SAMPLES, LENGTH, REPLACED = 5, 20, 0.2
NUM_WORDS, IMAGES = 10_201, 5_000
COCO_TRAINING_CAPTIONS = 566_747
BATCHES = (50, 250, 500)
TRIES = 20
PLAIN = "pycocoevalcap"
Captions = dict[int, list[list[int]]]


@dataclass(frozen=True)
class Work:
    """Captions of each image, and how many captions the document frequencies are of."""

    captions: Captions
    num_words: int
    frequencies_of: int


def main(arguments: list[str] | None = None) -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--captions", type=Path, help="COCO caption file; without it words are drawn")
    parser.add_argument("--images", type=int, default=IMAGES)
    parser.add_argument("--frequencies", type=int, default=COCO_TRAINING_CAPTIONS, metavar="CAPTIONS")
    given = parser.parse_args(arguments)
    captions, num_words = read_captions(given.captions) if given.captions else drawn_captions(given.images)
    torch.set_num_threads(1)
    limits = measure_limits()
    rows = measure(Work(captions, num_words, given.frequencies), pick_device(), limits)
    publish("cider", rows, limits, pick_device(), out=given.out, page=given.page)


def measure(work: Work, device: torch.device, limits: Limits) -> list[Row]:
    """Document frequencies, preparation, batches of each size, and the distance to pycocoevalcap."""
    rng = np.random.default_rng(0)
    corpus = varied_corpus(work, rng)
    holder: list[DocumentFrequencies] = []
    seconds = elapsed(lambda: holder.append(DocumentFrequencies.build(corpus, work.num_words)))
    count = sum(map(len, corpus))
    rows = [Row(f"document frequencies of {count:,} captions", seconds, "s", aim="under 20 s")]
    scorers: list[CiderD] = []
    seconds = elapsed(lambda: scorers.append(CiderD(work.captions, holder[0], end_token=True)))
    rows.append(Row(f"preparing {sum(map(len, work.captions.values())):,} references", seconds, "s"))
    for size in BATCHES:
        rows.append(batch_row(scorers[0], work, size, rng))
    if device.type == "cuda":
        rows.append(device_row(scorers[0], work, device, rng))
    return [*rows, distance_row(work, rng)]


def batch_row(scorer: CiderD, work: Work, size: int, rng: np.random.Generator) -> Row:
    """Captions per second in batches of `size`, against pycocoevalcap on the same captions."""
    image_ids, caption_NL = sampled_batch(work, size, rng)
    ours = best_seconds(partial(scorer.score, caption_NL, image_ids), torch.device("cpu"), TRIES)
    truth = {number: as_text(work.captions[image_id]) for number, image_id in enumerate(image_ids)}
    found = {number: as_text([row.tolist()]) for number, row in enumerate(caption_NL)}
    plain = best_seconds(lambda: Cider().compute_score(truth, found), torch.device("cpu"), 3)
    aim = "100,000 on one core" if size == BATCHES[-1] else ""
    name = f"reward, {size // SAMPLES} images x {SAMPLES}"
    return Row(name, size / ours, "captions/s", ratio=plain / ours, than=PLAIN, aim=aim)


def device_row(scorer: CiderD, work: Work, device: torch.device, rng: np.random.Generator) -> Row:
    """Milliseconds of the largest batch on a GPU, captions and scores staying there."""
    image_ids, caption_NL = sampled_batch(work, BATCHES[-1], rng)
    on_device = DeviceCiderD(scorer, device)
    caption = torch.from_numpy(caption_NL).to(device)
    seconds = best_seconds(lambda: on_device.score(caption, image_ids), device, TRIES)
    return Row(f"reward on the GPU, {len(image_ids)} captions", 1000 * seconds, "ms", aim="under 2 ms")


def distance_row(work: Work, rng: np.random.Generator) -> Row:
    """Largest difference to pycocoevalcap, with the document frequencies of the references themselves."""
    captions = dict(list(work.captions.items())[: BATCHES[-1]])
    spoken = {
        image_id: varied(of_image[0], 0.5, work, rng)[: LENGTH - 1] for image_id, of_image in captions.items()
    }
    frequencies = DocumentFrequencies.build(captions.values(), work.num_words)
    scores = CiderD(captions, frequencies, end_token=False).score(
        padded(list(spoken.values())), list(captions)
    )
    truth = {image_id: as_text(of_image) for image_id, of_image in captions.items()}
    official = Cider().compute_score(truth, {image_id: as_text([row]) for image_id, row in spoken.items()})[1]
    return Row(f"largest difference to {PLAIN}", float(abs(scores - official).max()), "", aim="below 1e-9")


def sampled_batch(work: Work, size: int, rng: np.random.Generator) -> tuple[list[int], np.ndarray]:
    """Image ids and captions of a batch of samples."""
    images = rng.choice(list(work.captions), size // SAMPLES).tolist()
    chosen = [work.captions[image_id] for image_id in images]
    rows = [varied(of[n % len(of)], REPLACED, work, rng) for of in chosen for n in range(SAMPLES)]
    return [image_id for image_id in images for _ in range(SAMPLES)], padded(rows)


def varied_corpus(work: Work, rng: np.random.Generator) -> list[list[list[int]]]:
    """Captions of as many images as it takes, each a variation of a real one."""
    corpus, count = [], 0
    while count < work.frequencies_of:
        for of_image in work.captions.values():
            corpus.append([varied(caption, REPLACED, work, rng) for caption in of_image])
            count += len(of_image)
            if count >= work.frequencies_of:
                break
    return corpus


def varied(caption: Sequence[int], share: float, work: Work, rng: np.random.Generator) -> list[int]:
    """The caption with a share of its words replaced by words drawn unevenly."""
    replaced = rng.random(len(caption)) < share
    return np.where(replaced, drawn_words(len(caption), num_words=work.num_words, rng=rng), caption).tolist()


def drawn_words(count: int, *, num_words: int, rng: np.random.Generator) -> np.ndarray:
    """Word ids whose chance falls with their rank as in Zipf's law."""
    first = len(SPECIALS)
    return (first * (num_words / first) ** rng.random(count)).astype(np.int64)


def drawn_captions(images: int) -> tuple[Captions, int]:
    """Made-up captions, as long as COCO's (10.5 words, deviation 2.4), five per image."""
    rng = np.random.default_rng(1)
    length_AS = rng.normal(10.5, 2.4, (images, 5)).round().clip(5, 40).astype(int)
    captions = {
        image_id: [drawn_words(length, num_words=NUM_WORDS, rng=rng).tolist() for length in of_image]
        for image_id, of_image in enumerate(length_AS)
    }
    return captions, NUM_WORDS


def read_captions(path: Path) -> tuple[Captions, int]:
    """The captions of a COCO file as ids of its own words."""
    id_of: dict[str, int] = {}
    captions: Captions = {}
    for annotation in load_json(path)["annotations"]:
        tokens = ptb_tokenize(annotation["caption"])
        row = [id_of.setdefault(token, len(SPECIALS) + len(id_of)) for token in tokens]
        captions.setdefault(annotation["image_id"], []).append(row)
    return captions, len(SPECIALS) + len(id_of)


def padded(captions: Sequence[Sequence[int]]) -> np.ndarray:
    """Rows of LENGTH ids, `<eos>` after each caption."""
    rows = np.full((len(captions), LENGTH), PAD, dtype=np.int64)
    for row, caption in zip(rows, captions, strict=True):
        cut = list(caption[: LENGTH - 1])
        row[: len(cut) + 1] = [*cut, EOS]
    return rows


def as_text(captions: Sequence[Sequence[int]]) -> list[str]:
    """Words as pycocoevalcap takes them."""
    return [" ".join(str(word) for word in caption if word not in (EOS, PAD)) for caption in captions]


if __name__ == "__main__":
    run_command(main)
