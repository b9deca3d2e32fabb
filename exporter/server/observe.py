"""Observability of requests: one log line each, and metrics."""

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
"""Seconds. The caller's deadline passes earlier than ours, by the time that the request travelled."""

_BARE = re.compile(r"[A-Za-z0-9_./:@+-]+")


@contextmanager
def observed(
    metrics: Metrics, context: grpc.aio.ServicerContext[Any, Any], method: str, **facts: str
) -> Iterator[None]:
    """Log and count a request with its outcome when it ends.

    Args:
        metrics: Receives the counts.
        context: The context of the call.
        method: The name of the method.
        **facts: Additional fields for the log. ``type`` is also a label of metrics, so it must be bounded.

    Raises:
        asyncio.CancelledError: instead of `ClientGoneError`, because that is how gRPC signals it.
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
    """Log a line of ``key=value`` pairs. The record's `facts` has the fields for structured handlers."""
    if failure is not None:
        facts["error"] = failure.message
    line = " ".join(f"{key}={_value(value)}" for key, value in facts.items() if value)
    logger.log(logging.WARNING if failure is not None else logging.INFO, "%s", line, extra={"facts": facts})


def _value(text: str) -> str:
    """Quote a value if necessary, so that a client cannot inject line breaks."""
    return text if _BARE.fullmatch(text) else json.dumps(text)
