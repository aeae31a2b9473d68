import threading

import numpy as np
import pytest

from fsgr_model.runtime.background_writer import BATCHES_WAITING, BackgroundWriter
from fsgr_model.runtime.errors import UserError

ROWS = np.zeros((1, 3, 4), dtype=np.float32)


class SlowWriter:
    """Stands in for a writer: notes what it writes, and waits until it may go on."""

    def __init__(self) -> None:
        self.written: list[list[int]] = []
        self.may_go_on = threading.Event()

    def write(self, image_ids, rows):
        self.may_go_on.wait(30)
        if 13 in image_ids:
            raise UserError("features of image 13 hold NaN")
        self.written.append(image_ids)


def test_writing_in_the_background_goes_on_while_the_next_rows_are_made():
    slow = SlowWriter()
    with BackgroundWriter(slow) as background:
        for number in range(BATCHES_WAITING):
            background.write([number], lambda: ROWS)
        assert slow.written == []
        slow.may_go_on.set()
        background.write([7], lambda: ROWS)
    assert slow.written == [*([number] for number in range(BATCHES_WAITING)), [7]]


def test_only_so_many_batches_wait_for_the_writer():
    slow = SlowWriter()
    with BackgroundWriter(slow) as background:
        timer = threading.Timer(0.3, slow.may_go_on.set)
        timer.start()
        for number in range(BATCHES_WAITING + 1):
            assert not slow.may_go_on.is_set()
            background.write([number], lambda: ROWS)
        assert slow.may_go_on.is_set()


def test_what_was_given_is_written_also_when_the_work_breaks_off():
    slow = SlowWriter()
    slow.may_go_on.set()
    with pytest.raises(KeyboardInterrupt), BackgroundWriter(slow) as background:
        background.write([1], lambda: ROWS)
        background.write([2], lambda: ROWS)
        raise KeyboardInterrupt
    assert slow.written == [[1], [2]]


def test_an_error_in_the_background_is_told():
    slow = SlowWriter()
    slow.may_go_on.set()
    with pytest.raises(UserError, match="image 13"), BackgroundWriter(slow) as background:
        background.write([13], lambda: ROWS)
