"""The networks of a bulk run: one in this process, or one in each of several."""

import hashlib
import json
import multiprocessing
import os
import signal
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from multiprocessing.queues import SimpleQueue
from pathlib import Path
from typing import Any

import torch

from fsgr_model.commands.bulk_file import line_of
from fsgr_model.commands.caption_files import AnyCaptioner, caption_group, concept_names, scored
from fsgr_model.inference.describing import DescribedImage
from fsgr_model.inference.ensemble import EnsembleCaptioner
from fsgr_model.runtime.stopping import end_with_parent

Group = Sequence[Path]


@dataclass(frozen=True)
class Job:
    """How to load the network, in each process; `detailed`: with all that `--json` prints."""

    load: Callable[[], AnyCaptioner]
    detailed: bool = False


@dataclass(frozen=True)
class Line:
    """A captioned picture, its best caption, and its line of the file."""

    path: Path
    caption: str
    line: bytes


@dataclass(frozen=True)
class Said:
    """What became of a group: its lines, and how many of each suffix could not be read."""

    lines: list[Line]
    bad: Counter[str]


@dataclass(frozen=True)
class Model:
    """A hash of all that makes a caption, and the pictures of a group."""

    identity: str
    batch_size: int


class Speaker:
    """The network in a process; called with a group of pictures."""

    def __init__(self, job: Job) -> None:
        self.captioner, self.detailed = job.load(), job.detailed
        self.model = Model(identity(self.captioner, job.detailed), self.captioner.batch_size)
        self.readers = ThreadPoolExecutor()

    def __call__(self, group: Group) -> Said:
        lines: list[Line] = []

        def keep(path: Path, image: Any, described: DescribedImage) -> None:
            row = {"path": str(path), **self._row(described), "model": self.model.identity}
            lines.append(Line(path, described.captions[0].text, line_of(row)))

        bad = caption_group(self.captioner, group, self.readers, [keep])
        return Said(lines, bad)

    def _row(self, described: DescribedImage) -> dict[str, Any]:
        """The best caption, and all of them where there are several."""
        captions = [scored(caption) for caption in described.captions]
        if not self.detailed:
            captions = [{key: each[key] for key in ("caption", "log_probability")} for each in captions]
        row = captions[0] | ({"captions": captions} if len(captions) > 1 else {})
        if self.detailed:
            row["concepts"] = concept_names(self.captioner.concepts, described)
        return row


def identity(captioner: AnyCaptioner, detailed: bool) -> str:
    """A hash of the weights, of how captions are made, and of what a line has: 12 hexadecimal digits."""
    members = captioner.members if isinstance(captioner, EnsembleCaptioner) else [captioner]
    first = members[0]
    how = [first.decode.model_dump_json(), first.num_captions, first.seed, detailed]
    digest = hashlib.sha256(json.dumps([how, [member.identity for member in members]]).encode())
    for member in members:
        for name, weight in sorted(member.weights().items()):
            digest.update(f"{name} {tuple(weight.shape)}".encode())
            digest.update(weight.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()[:12]


Captioned = Callable[[Iterable[Group]], Iterator[Said]]


@contextmanager
def workers(job: Job, count: int) -> Iterator[tuple[Model, Captioned]]:
    """The model, and what captions groups in their order: here, or in `count` processes."""
    if count == 1:
        speaker = Speaker(job)
        yield speaker.model, partial(map, speaker)
        return
    context = multiprocessing.get_context("spawn")
    numbers: SimpleQueue[int] = context.SimpleQueue()
    for number in range(count):
        numbers.put(number)
    pool = ProcessPoolExecutor(count, context, _begin_worker, (job, os.getpid(), numbers, count))
    try:
        yield pool.submit(_model).result(), partial(_in_turn, pool, 2 * count)
    finally:
        pool.shutdown(cancel_futures=True)


def _in_turn(pool: ProcessPoolExecutor, ahead: int, groups: Iterable[Group]) -> Iterator[Said]:
    """The groups in their order, of which no more than `ahead` are under way."""
    under_way: deque[Future[Said]] = deque()
    for group in groups:
        under_way.append(pool.submit(_say, group))
        if len(under_way) == ahead:
            yield under_way.popleft().result()
    while under_way:
        yield under_way.popleft().result()


# In a process of the pool: its job, and once it is needed its network.
_HERE: dict[str, Any] = {}


def _begin_worker(job: Job, parent: int, numbers: "SimpleQueue[int]", count: int) -> None:
    """The first thing in a process of the pool. Ctrl-C reaches all; the one that writes ends the others."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    end_with_parent(parent)
    _HERE["job"] = job
    number = numbers.get()
    if torch.cuda.is_available():
        torch.cuda.set_device(number % torch.cuda.device_count())
    if "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(max(1, (os.cpu_count() or 1) // count))


def _speaker() -> Speaker:
    """Loaded in a task, so that what is wrong with the files comes back as the error that says so."""
    if "speaker" not in _HERE:
        _HERE["speaker"] = Speaker(_HERE["job"])
    return _HERE["speaker"]


def _model() -> Model:
    return _speaker().model


def _say(group: Group) -> Said:
    return _speaker()(group)
