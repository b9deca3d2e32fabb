"""What the server counts."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext


class Metrics:
    """Counts nothing: what a server has for which nobody asked for metrics.

    `exporter.server.prometheus.PrometheusMetrics` counts.
    """

    def watch(self, *, sessions: Callable[[], int], queued: Callable[[], int]) -> None:
        """Say where to look for numbers that change by themselves."""

    def in_flight(self, method: str) -> AbstractContextManager[object]:
        """Count a request as being worked on, for as long as the block runs."""
        return nullcontext()

    def request(self, method: str, exporter_type: str, code: str, seconds: float) -> None:
        """Count a request that has ended."""

    def read(self, amount: int) -> None:
        """Count bytes of layers that were read."""

    def sent(self, amount: int) -> None:
        """Count bytes sent to a client."""
