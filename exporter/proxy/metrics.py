"""The interface of the proxy's metrics."""

from __future__ import annotations

from collections.abc import Callable


class ProxyMetrics:
    """Metrics that are not recorded, for a proxy without a metrics endpoint.

    `exporter.proxy.prometheus.PrometheusProxyMetrics` records them.
    """

    def watch(self, *, builds: Callable[[], int], connections: Callable[[], int]) -> None:
        """Register callbacks for gauges."""

    def connected(self) -> None:
        """Count a client's connection."""

    def unreachable(self) -> None:
        """Count a client's connection for which the daemon was not reachable."""

    def received(self, amount: int) -> None:
        """Count bytes from clients."""

    def sent(self, amount: int) -> None:
        """Count bytes to clients."""

    def build(self, *, has_our_exports: bool) -> None:
        """Count a requested build."""

    def ended(self, phase: str, exporter_type: str, code: str, seconds: float) -> None:
        """Record an export or its publishing; see `exporter.takeover.build.OnEnd`."""
