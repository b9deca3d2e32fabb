"""Cost against size: layers, history entries, clients, and bytes of a blob. The results are plotted."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from bench.core import flavors, make_config
from bench.exports import measure_rates
from bench.measure import OURS, say, seconds_of, seconds_per_call
from bench.options import Options
from bench.sources import make_source

QUICK_POINTS = 3
CORE_SECONDS = 0.3
KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30


@dataclass(frozen=True, slots=True)
class Curve:
    """How a cost grows.

    Attributes:
        name: A word for the file of the plot.
        title: What was measured.
        x: The meaning of the keys of `series`' values.
        y: The meaning of the values.
        series: Points by name.
    """

    name: str
    title: str
    x: str
    y: str
    series: Mapping[str, Mapping[float, float]]


def curves(options: Options) -> Iterator[Curve]:
    """Measure all of them."""
    yield _history(options)
    yield _layers(options)
    yield _clients(options)
    yield _blobs(options)


def _points(options: Options, *points: int) -> tuple[int, ...]:
    return points[:: max(1, len(points) // QUICK_POINTS)][:QUICK_POINTS] if options.quick else points


def _history(options: Options) -> Curve:
    series: dict[str, dict[float, float]] = {"moby": {}, "buildkit": {}}
    for entries in _points(options, 10, 100, 1000, 10_000, 100_000):
        say(f"image core with {entries} history entries")
        for flavor, call in flavors(make_config(entries), min((entries + 1) // 2, 1000)).items():
            series[flavor][entries] = seconds_per_call(call, CORE_SECONDS) * 1e6
    return Curve("history", "Image core", "history entries", "µs", series)


def _layers(options: Options) -> Curve:
    seconds: dict[float, float] = {}
    for layers in _points(options, 1, 3, 10, 30, 100, 300, 1000):
        say(f"export of {layers} layers")
        source = options.directory / f"layers-{layers}"
        make_source(source, [1000] * layers)
        seconds[layers] = _export(options, source, f"type=oci,dest={options.directory}/layers.tar")
    return Curve(
        "layers",
        "export of small layers as an OCI archive, the whole command",
        "layers",
        "s",
        {"export": seconds},
    )


def _clients(options: Options) -> Curve:
    counts = _points(options, 1, 4, 16, 64, 256)
    rates = asyncio.run(measure_rates(options, counts, 5))
    return Curve(
        "clients",
        "Exports of 5 layers that are in the store",
        "clients",
        "ms per export (total time / exports)",
        {"export": {count: 1000 / rate.per_second for count, rate in rates.items()}},
    )


def _blobs(options: Options) -> Curve:
    series: dict[str, dict[float, float]] = {"OCI archive": {}, "embedded store": {}}
    sizes = (
        (KIB, 32 * KIB, MIB, 32 * MIB)
        if options.quick
        else (KIB, 32 * KIB, MIB, 32 * MIB, 256 * MIB, GIB, 4 * GIB)
    )
    for size in sizes:
        say(f"export of a layer of {size} bytes")
        source = options.directory / "blob"
        made = make_source(source, [size])
        archive = options.directory / "blob.tar"
        series["OCI archive"][made] = _export(options, source, f"type=oci,dest={archive}")
        archive.unlink()
        series["embedded store"][made] = _export(options, source, "type=image,name=x/y")
        shutil.rmtree(source)
    return Curve("blobs", "export of one layer, the whole command with sync", "bytes", "s", series)


def _export(options: Options, source: object, output: str) -> float:
    root = options.directory / "sizes-root"
    words = [
        "export",
        "--source",
        str(source),
        "--output",
        output,
        "--progress",
        "quiet",
        "--root",
        str(root),
    ]
    try:
        return seconds_of([*OURS, *words])
    finally:
        shutil.rmtree(root, ignore_errors=True)
