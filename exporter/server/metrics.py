"""The interface of the server's metrics."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext


class Metrics:
    """Metrics that are not recorded, for a server without a metrics endpoint.

    `exporter.server.prometheus.PrometheusMetrics` records them.
    """

    def watch(self, *, sessions: Callable[[], int], queued: Callable[[], int]) -> None:
        """Register callbacks for gauges."""

    def in_flight(self, method: str) -> AbstractContextManager[object]:
        """Count a request as in flight while the block runs."""
        return nullcontext()

    def request(self, method: str, exporter_type: str, code: str, seconds: float) -> None:
        """Record a completed request."""

    def read(self, amount: int) -> None:
        """Count bytes read from layers."""

    def sent(self, amount: int) -> None:
        """Count bytes sent to a client."""
