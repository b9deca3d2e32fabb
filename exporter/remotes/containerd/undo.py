"""Best-effort cleanup at the end of an export, whose outcome it must not change."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

import grpc
import grpc.aio

SECONDS = 5.0
"""The timeout for a cleanup call."""

logger = logging.getLogger(__name__)


@contextmanager
def undoing(what: str) -> Iterator[None]:
    """Log the failure of a cleanup call instead of raising it.

    A missing resource is not a failure. If containerd is not reachable, its garbage collector will clean up.
    """
    try:
        yield
    except grpc.aio.UsageError as error:
        logger.warning("containerd: cannot remove %s: %s", what, error)
    except grpc.aio.AioRpcError as error:
        if error.code() is not grpc.StatusCode.NOT_FOUND:
            logger.warning("containerd: cannot remove %s: %s", what, error.details())
