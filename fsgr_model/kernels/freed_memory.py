"""Memory that a training step frees stays with the process, for the next step to use.

By itself glibc gives the free end of its heap back to Linux after most of the large tensors of a step, and
the next ones are new pages, each of which Linux must map and clear first.
"""

import ctypes
import os
import sys

# The names that glibc's malloc.h has for these two.
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
# A free end of the heap up to this size is kept.
KEPT_BYTES = 64 * 2**20
# Blocks from this size on are mapped one by one; it is the most that glibc takes.
MAPPED_BYTES = 32 * 2**20
CHOSEN_BY_USER = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "MALLOC_TOP_PAD_", "GLIBC_TUNABLES")


def keep_freed_memory() -> None:
    """Tell glibc to keep freed memory, for the rest of the process.

    Nothing changes where the user has set a variable of glibc's malloc, or where the C library is another.
    """
    if sys.platform != "linux" or any(name in os.environ for name in CHOSEN_BY_USER):
        return
    set_option = getattr(ctypes.CDLL(None), "mallopt", None)
    if set_option is not None:
        set_option(M_MMAP_THRESHOLD, MAPPED_BYTES)
        set_option(M_TRIM_THRESHOLD, KEPT_BYTES)
