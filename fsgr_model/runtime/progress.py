"""Progress of long work: a bar in a terminal, a plain line every few seconds elsewhere."""

import sys
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

from tqdm import tqdm

T = TypeVar("T")
SECONDS_BETWEEN_LINES = 10.0


def progress(items: Iterable[T], total: int, name: str, *, unit: str, done: int = 0) -> Iterator[T]:
    """Yield `items` and show how many of them are done, the rate and the time left.

    `done` is how many of `total` were finished before (a resumed run).
    """
    if sys.stderr.isatty():
        yield from tqdm(items, desc=name, total=total, initial=done, unit=unit, smoothing=0.1)
        return
    start = last = time.monotonic()
    first = done
    for item in items:
        yield item
        done += 1
        now = time.monotonic()
        if now - last >= SECONDS_BETWEEN_LINES and done < total:
            last = now
            rate = (done - first) / (now - start)
            print(
                f"{name}: {done}/{total} {unit}, {rate:.1f} {unit}/s, {(total - done) / rate:.0f} s left",
                flush=True,
            )
    seconds = time.monotonic() - start
    print(f"{name}: {done}/{total} {unit} in {seconds:.1f} s", flush=True)
