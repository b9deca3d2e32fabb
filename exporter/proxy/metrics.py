"""What the proxy counts."""

from __future__ import annotations

from collections.abc import Callable


class ProxyMetrics:
    """Counts nothing: what a proxy has for which nobody asked for metrics.

    `exporter.proxy.prometheus.PrometheusProxyMetrics` counts.
    """

    def watch(self, *, builds: Callable[[], int], connections: Callable[[], int]) -> None:
        """Say where to look for numbers that change by themselves."""

    def connected(self) -> None:
        """Count a connection of a client."""

    def unreachable(self) -> None:
        """Count a connection of a client for which there was no daemon."""

    def received(self, amount: int) -> None:
        """Count bytes from clients."""

    def sent(self, amount: int) -> None:
        """Count bytes to clients."""

    def build(self, *, has_our_exports: bool) -> None:
        """Count a build that has been asked for."""

    def ended(self, phase: str, exporter_type: str, code: str, seconds: float) -> None:
        """Count an export, or its publishing; see `exporter.takeover.build.OnEnd`."""
