from __future__ import annotations

import asyncio
import logging
from typing import Any, cast

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from exporter.engine.jobs import ClientGoneError
from exporter.errors import InvalidArgumentError
from exporter.server.observe import observed
from exporter.server.prometheus import PrometheusMetrics as Metrics


class Context:
    """The part of a call's context that is used."""

    def __init__(self, remaining: float | None = None) -> None:
        self._remaining = remaining

    def time_remaining(self) -> float | None:
        return self._remaining


def observe(metrics: Metrics, remaining: float | None = None, **facts: str) -> Any:
    return observed(metrics, cast(Any, Context(remaining)), "Export", **facts)


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.INFO)
    return caplog


def test_a_success_is_one_line(lines: pytest.LogCaptureFixture) -> None:
    registry = CollectorRegistry()
    metrics = Metrics(registry)
    with observe(metrics, type="moby", session=""):
        pass
    (record,) = lines.records
    assert record.levelno == logging.INFO
    assert record.getMessage().startswith("rpc=Export code=OK duration=0.")
    assert record.getMessage().endswith(" type=moby"), "empty facts are left out"
    shown = generate_latest(registry).decode()
    assert 'buildkit_exporter_requests_total{code="OK",method="Export",type="moby"} 1.0' in shown


def test_a_failure_says_why(lines: pytest.LogCaptureFixture) -> None:
    with pytest.raises(InvalidArgumentError), observe(Metrics(CollectorRegistry()), type="oci"):
        raise InvalidArgumentError('bad "name"')
    (record,) = lines.records
    assert record.levelno == logging.WARNING
    assert record.getMessage().endswith(r'error="bad \"name\""')
    assert record.__dict__["facts"]["code"] == "INVALID_ARGUMENT"


def test_a_client_cannot_forge_lines(lines: pytest.LogCaptureFixture) -> None:
    with observe(Metrics(CollectorRegistry()), build="x\nrpc=Export code=OK \x1b[2J"):
        pass
    (record,) = lines.records
    assert "\n" not in record.getMessage()
    assert "\x1b" not in record.getMessage()


@pytest.mark.parametrize(
    ("remaining", "code"),
    [
        (None, "CANCELLED"),
        (500.0, "CANCELLED"),
        (1.5, "CANCELLED"),
        (0.5, "DEADLINE_EXCEEDED"),
        (0.0, "DEADLINE_EXCEEDED"),
    ],
)
@pytest.mark.parametrize("error", [asyncio.CancelledError, ClientGoneError])
def test_a_disconnected_caller_is_not_our_failure(
    lines: pytest.LogCaptureFixture, error: type[BaseException], remaining: float | None, code: str
) -> None:
    with pytest.raises(asyncio.CancelledError), observe(Metrics(CollectorRegistry()), remaining):
        raise error
    assert f"code={code}" in lines.records[0].getMessage()
