"""Starting to write a file to disk while more of it is being produced.

A single sync at the end of a large file would wait for all of its bytes: the kernel starts on its own only
when a tenth of the memory is dirty, or after 30 seconds.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

STEP = 8 << 20
"""Bytes per request: enough for a disk to write in one go, and little to be left for the sync at the end."""

_SYNC_FILE_RANGE_WRITE = 2


def start_writing(fd: int, offset: int, length: int) -> None:
    """Start to write a range of a file to disk, without waiting for it. Blocks if the disk's queue is full.

    This makes nothing durable; a sync is still needed. Without effect where the system has no such call.
    """
    call = _call()
    if call is not None:
        # A failure shows again in the sync, which checks the whole file.
        call(fd, offset, length, _SYNC_FILE_RANGE_WRITE)


@functools.cache
def _call() -> Callable[[int, int, int, int], int] | None:
    import ctypes  # slow, and only for large files

    try:
        function = ctypes.CDLL(None).sync_file_range
    except (AttributeError, OSError):
        return None
    function.argtypes = ctypes.c_int, ctypes.c_int64, ctypes.c_int64, ctypes.c_uint
    function.restype = ctypes.c_int
    found: Callable[[int, int, int, int], int] = function
    return found
