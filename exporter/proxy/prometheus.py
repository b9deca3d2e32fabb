"""The proxy's metrics for Prometheus; needs the extra ``metrics``."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from exporter.engine.durations import DURATION_BUCKETS
from exporter.proxy.metrics import ProxyMetrics


class PrometheusProxyMetrics(ProxyMetrics):
    """Records metrics in a registry.

    Args:
        registry: The registry that the HTTP endpoint exposes.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self._builds = Gauge(
            "buildkit_exporter_proxy_builds_in_flight", "Builds in progress.", registry=registry
        )
        self._connections = Gauge(
            "buildkit_exporter_proxy_connections", "Connections of clients.", registry=registry
        )
        self._connected = Counter(
            "buildkit_exporter_proxy_connections_accepted",
            "Accepted connections of clients.",
            registry=registry,
        )
        self._unreachable = Counter(
            "buildkit_exporter_proxy_connections_without_daemon",
            "Connections of clients for which the daemon could not be reached.",
            registry=registry,
        )
        passed = Counter(
            "buildkit_exporter_proxy_bytes",
            "Bytes to and from clients, as they are on the wire inside TLS.",
            ("direction",),
            registry=registry,
        )
        self._received, self._sent = passed.labels("from_clients"), passed.labels("to_clients")
        requested = Counter(
            "buildkit_exporter_proxy_builds",
            "Builds requested by clients: with exports of this proxy, or only of the daemon.",
            ("exports",),
            registry=registry,
        )
        self._requested = {True: requested.labels("proxy"), False: requested.labels("daemon")}
        self._exports = Counter(
            "buildkit_exporter_proxy_exports",
            "Completed exports, by phase (export, finalize), type and gRPC status code.",
            ("phase", "type", "code"),
            registry=registry,
        )
        self._duration = Histogram(
            "buildkit_exporter_proxy_export_duration_seconds",
            "Duration of exports, by phase and type.",
            ("phase", "type"),
            buckets=DURATION_BUCKETS,
            registry=registry,
        )

    def watch(self, *, builds: Callable[[], int], connections: Callable[[], int]) -> None:
        """See `ProxyMetrics.watch`."""
        self._builds.set_function(builds)
        self._connections.set_function(connections)

    def connected(self) -> None:
        """See `ProxyMetrics.connected`."""
        self._connected.inc()

    def unreachable(self) -> None:
        """See `ProxyMetrics.unreachable`."""
        self._unreachable.inc()

    def received(self, amount: int) -> None:
        """See `ProxyMetrics.received`."""
        self._received.inc(amount)

    def sent(self, amount: int) -> None:
        """See `ProxyMetrics.sent`."""
        self._sent.inc(amount)

    def build(self, *, has_our_exports: bool) -> None:
        """See `ProxyMetrics.build`."""
        self._requested[has_our_exports].inc()

    def ended(self, phase: str, exporter_type: str, code: str, seconds: float) -> None:
        """See `ProxyMetrics.ended`."""
        self._exports.labels(phase, exporter_type, code).inc()
        self._duration.labels(phase, exporter_type).observe(seconds)
