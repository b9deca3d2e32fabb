"""The server's metrics for Prometheus; needs the extra ``metrics``."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from exporter.engine.durations import DURATION_BUCKETS
from exporter.server.metrics import Metrics


class PrometheusMetrics(Metrics):
    """Records metrics in a registry.

    Args:
        registry: The registry that the HTTP endpoint exposes.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self._requests = Counter(
            "buildkit_exporter_requests",
            "Completed requests, by method, exporter type and gRPC status code.",
            ("method", "type", "code"),
            registry=registry,
        )
        self._duration = Histogram(
            "buildkit_exporter_request_duration_seconds",
            "Duration of requests, including time in the queue.",
            ("method", "type"),
            buckets=DURATION_BUCKETS,
            registry=registry,
        )
        self._in_flight = Gauge(
            "buildkit_exporter_requests_in_flight",
            "Requests in flight.",
            ("method",),
            registry=registry,
        )
        self._queued = Gauge(
            "buildkit_exporter_exports_queued",
            "Queued exports.",
            registry=registry,
        )
        self._sessions = Gauge(
            "buildkit_exporter_sessions",
            "Attached sessions.",
            registry=registry,
        )
        self._read = Counter(
            "buildkit_exporter_layer_read_bytes",
            "Bytes of layers that exports have read, from any source.",
            registry=registry,
        )
        self._sent = Counter(
            "buildkit_exporter_output_sent_bytes",
            "Bytes of output sent to clients.",
            registry=registry,
        )

    def watch(self, *, sessions: Callable[[], int], queued: Callable[[], int]) -> None:
        """See `Metrics.watch`."""
        self._sessions.set_function(sessions)
        self._queued.set_function(queued)

    def in_flight(self, method: str) -> AbstractContextManager[object]:
        """See `Metrics.in_flight`."""
        return self._in_flight.labels(method).track_inprogress()

    def request(self, method: str, exporter_type: str, code: str, seconds: float) -> None:
        """See `Metrics.request`."""
        self._requests.labels(method, exporter_type, code).inc()
        self._duration.labels(method, exporter_type).observe(seconds)

    def read(self, amount: int) -> None:
        """See `Metrics.read`."""
        self._read.inc(amount)

    def sent(self, amount: int) -> None:
        """See `Metrics.sent`."""
        self._sent.inc(amount)
