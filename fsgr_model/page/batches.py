"""Batches formed across requests: what arrives while the network is busy is captioned together afterwards."""

import threading
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Protocol

from torch import Tensor

from fsgr_model.inference.describing import DescribedImage
from fsgr_model.inference.wishes import Unfulfilled, for_each


class Describes(Protocol):
    """What captions prepared images; `ImageCaptioner` does."""

    def describe(self, images: Sequence[Tensor]) -> list[DescribedImage]: ...


class TooMany(Exception):
    """As many pictures wait as may."""


@dataclass(frozen=True)
class Job:
    """A prepared image float32 [3, height, width], the captioner with the options asked for, the result."""

    image: Tensor
    captioner: Describes
    options: object
    done: "Future[DescribedImage]" = field(default_factory=Future)


class Batches:
    """One thread that captions; a batch holds what waits with the same options, in the order of arrival.

    No request waits for others to come: a picture alone is captioned at once.

    Args:
        size: pictures of a batch.
        most_waiting: pictures that may wait.
    """

    def __init__(self, size: int, *, most_waiting: int) -> None:
        self.size, self.most_waiting = size, most_waiting
        self._waiting: deque[Job] = deque()
        self._lock = threading.Lock()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="captions")

    def add(self, image: Tensor, captioner: Describes, options: object) -> "Future[DescribedImage]":
        """Caption an image in one of the next batches; `options` equal: it may share a batch.

        Raises:
            TooMany: as many wait as may.
        """
        job = Job(image, captioner, options)
        with self._lock:
            if len(self._waiting) >= self.most_waiting:
                raise TooMany
            self._waiting.append(job)
        self._thread.submit(self._caption_next)
        return job.done

    def close(self) -> None:
        """End after the batch that is under way; what waits is not captioned."""
        with self._lock:
            for job in self._waiting:
                job.done.cancel()
            self._waiting.clear()
        self._thread.shutdown()

    def _caption_next(self) -> None:
        jobs = self._take()
        if not jobs:
            return  # an earlier batch held them all
        try:
            described = for_each(jobs[0].captioner.describe, [job.image for job in jobs])
        except BaseException as error:
            for job in jobs:
                job.done.set_exception(error)
            raise
        for job, result in zip(jobs, described, strict=True):
            if result is None:
                job.done.set_exception(Unfulfilled("this picture"))
            else:
                job.done.set_result(result)

    def _take(self) -> list[Job]:
        """The first that waits, and those with the same options, as many as a batch holds."""
        with self._lock:
            running = [job for job in self._waiting if job.options == self._waiting[0].options][: self.size]
            chosen = {id(job) for job in running}
            self._waiting = deque(job for job in self._waiting if id(job) not in chosen)
        # One whose client has gone is left out.
        return [job for job in running if job.done.set_running_or_notify_cancel()]
