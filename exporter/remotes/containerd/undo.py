"""Undoing things at the end of an export, when whatever it was has succeeded or failed already."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

import grpc
import grpc.aio

SECONDS = 5.0
"""How long a call may take that undoes something."""

logger = logging.getLogger(__name__)


@contextmanager
def undoing(what: str) -> Iterator[None]:
    """Let the failure of a call change nothing about how the export ends.

    What is not there needs no undoing; without a connection, the garbage collector does it in time.
    """
    try:
        yield
    except grpc.aio.UsageError as error:
        logger.warning("containerd: %s could not be removed: %s", what, error)
    except grpc.aio.AioRpcError as error:
        if error.code() is not grpc.StatusCode.NOT_FOUND:
            logger.warning("containerd: %s could not be removed: %s", what, error.details())
