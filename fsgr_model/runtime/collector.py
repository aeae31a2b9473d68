"""Python's search for objects that only refer to each other in a circle, where there are none."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def no_circles() -> Iterator[None]:
    """Within the block millions of objects are made, none of them in a circle: they are not searched.

    The search takes a fifth of the time in which COCO's lists are read. It passes over these objects after
    the block as well, so worker processes that are forked then share their memory.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()
