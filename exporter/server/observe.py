"""What an operator sees of each request: one line in the log, and the metrics."""

from __future__ import annotations

import asyncio
import json
import logging
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import grpc.aio

from exporter.engine.jobs import ClientGoneError
from exporter.errors import Code, Failure, failure_of
from exporter.server.metrics import Metrics

logger = logging.getLogger(__name__)

_DEADLINE_SLACK = 1.0
"""Seconds. A caller's deadline is over before ours is, by the time that the request travelled."""

_BARE = re.compile(r"[A-Za-z0-9_./:@+-]+")


@contextmanager
def observed(
    metrics: Metrics, context: grpc.aio.ServicerContext[Any, Any], method: str, **facts: str
) -> Iterator[None]:
    """Log and count a request when it has ended, by its outcome.

    Args:
        metrics: Where it is counted.
        context: Of the call.
        method: Its name.
        **facts: More to log; ``type`` is also counted by, so it must be one of a known few.

    Raises:
        asyncio.CancelledError: in place of `ClientGoneError`, which it means to gRPC.
    """
    started = time.monotonic()
    failure: Failure | None = None
    with metrics.in_flight(method):
        try:
            yield
        except ClientGoneError:
            failure = _cancellation(context)
            raise asyncio.CancelledError from None
        except asyncio.CancelledError:
            failure = _cancellation(context)
            raise
        except BaseException as error:
            failure = failure_of(error)
            raise
        finally:
            seconds = time.monotonic() - started
            code = failure.code.name if failure is not None else "OK"
            metrics.request(method, facts.get("type", ""), code, seconds)
            _log(failure, {"rpc": method, "code": code, "duration": f"{seconds:.3f}", **facts})


def _cancellation(context: grpc.aio.ServicerContext[Any, Any]) -> Failure:
    remaining = context.time_remaining()
    if remaining is not None and remaining < _DEADLINE_SLACK:
        return Failure(Code.DEADLINE_EXCEEDED, "the caller's deadline has passed")
    return Failure(Code.CANCELLED, "the caller has cancelled the call or is gone")


def _log(failure: Failure | None, facts: dict[str, str]) -> None:
    """Write a line of ``key=value`` pairs; a handler that wants fields finds them in the record's `facts`."""
    if failure is not None:
        facts["error"] = failure.message
    line = " ".join(f"{key}={_value(value)}" for key, value in facts.items() if value)
    logger.log(logging.WARNING if failure is not None else logging.INFO, "%s", line, extra={"facts": facts})


def _value(text: str) -> str:
    """Quote what is not plain, so that a line stays one line whatever a client sends."""
    return text if _BARE.fullmatch(text) else json.dumps(text)
