"""Writes rows in a thread, while the next ones are computed."""

from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np

from fsgr_model.runtime.row_store import RowWriter

BATCHES_WAITING = 2


class BackgroundWriter:
    """Writes in a thread of its own, in order, while the next rows are computed; a context manager.

    At most BATCHES_WAITING batches wait; beyond that `write` blocks. However the block ends, all batches that
    were given to `write` are written.
    """

    def __init__(self, writer: RowWriter) -> None:
        self._writer = writer
        self._thread = ThreadPoolExecutor(max_workers=1)
        self._waiting: deque[Future[None]] = deque()

    def write(self, image_ids: Sequence[int], rows: Callable[[], np.ndarray]) -> None:
        """Write the rows that `rows` returns; it is called in the thread.

        Raises what it raises, for these rows or earlier ones.
        """
        self._waiting.append(self._thread.submit(lambda: self._writer.write(image_ids, rows())))
        while len(self._waiting) > BATCHES_WAITING:
            self._waiting.popleft().result()

    def __enter__(self) -> "BackgroundWriter":
        return self

    def __exit__(self, kind: type[BaseException] | None, *error: object) -> None:
        self._thread.shutdown(wait=True)
        if kind is None:
            for written in self._waiting:
                written.result()
