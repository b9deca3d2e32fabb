"""A plot as SVG: points and lines on two logarithmic axes."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from html import escape

from bench.sizes import Curve

WIDTH, HEIGHT = 560, 320
LEFT, RIGHT, TOP, BOTTOM = 70, 130, 36, 46
COLORS = ("#1f6feb", "#d1572b", "#2b8a3e")
PREFIXES = ((1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB"))


def svg(curve: Curve) -> str:
    """Draw a curve."""
    xs = [x for points in curve.series.values() for x in points]
    ys = [y for points in curve.series.values() for y in points.values()]
    across = _Scale(min(xs), max(xs), LEFT, WIDTH - RIGHT)
    up = _Scale(min(ys), max(ys), HEIGHT - BOTTOM, TOP)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" '
        f'font-family="sans-serif" font-size="12">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#fff"/>',
        f'<text x="{LEFT}" y="20" font-weight="bold">{escape(curve.title)}</text>',
        *_axes(curve, across, up),
    ]
    for number, (name, points) in enumerate(curve.series.items()):
        color = COLORS[number % len(COLORS)]
        places = [(across.place(x), up.place(y)) for x, y in sorted(points.items())]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{color}" stroke-width="2"/>')
        parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{color}"/>' for x, y in places]
        at = f'x="{WIDTH - RIGHT + 12}" y="{TOP + 14 + 18 * number}"'
        parts.append(f'<text {at} fill="{color}">{escape(name)}</text>')
    return "\n".join([*parts, "</svg>\n"])


class _Scale:
    """A logarithmic axis."""

    def __init__(self, low: float, high: float, begin: float, end: float) -> None:
        self.low = 10 ** math.floor(math.log10(low))
        self.high = max(10 ** math.ceil(math.log10(high)), self.low * 10)
        self._begin, self._end = begin, end

    def place(self, value: float) -> float:
        part = math.log(value / self.low) / math.log(self.high / self.low)
        return self._begin + part * (self._end - self._begin)

    def ticks(self, *, binary: bool) -> Sequence[float]:
        if binary:
            first, last = math.ceil(math.log2(self.low)), math.floor(math.log2(self.high))
            return [2.0**power for power in range(first, last + 1) if power % 10 == 0]
        first, last = round(math.log10(self.low)), round(math.log10(self.high))
        return [10.0**power for power in range(first, last + 1)]


def _axes(curve: Curve, across: _Scale, up: _Scale) -> Iterator[str]:
    bottom = HEIGHT - BOTTOM
    is_binary = curve.x == "bytes"
    for x in across.ticks(binary=is_binary):
        at = across.place(x)
        yield f'<line x1="{at:.1f}" y1="{TOP}" x2="{at:.1f}" y2="{bottom}" stroke="#ddd"/>'
        yield f'<text x="{at:.1f}" y="{bottom + 16}" text-anchor="middle">{_label(x, is_binary)}</text>'
    for y in up.ticks(binary=False):
        at = up.place(y)
        yield f'<line x1="{LEFT}" y1="{at:.1f}" x2="{WIDTH - RIGHT}" y2="{at:.1f}" stroke="#ddd"/>'
        yield f'<text x="{LEFT - 6}" y="{at + 4:.1f}" text-anchor="end">{_label(y, is_binary=False)}</text>'
    middle = (LEFT + WIDTH - RIGHT) / 2
    yield f'<text x="{middle:.0f}" y="{HEIGHT - 8}" text-anchor="middle">{escape(curve.x)}</text>'
    yield (
        f'<text transform="translate(14 {(TOP + bottom) / 2:.0f}) rotate(-90)" text-anchor="middle">'
        f"{escape(curve.y)}</text>"
    )


def _label(value: float, is_binary: bool) -> str:
    if is_binary:
        for size, unit in PREFIXES:
            if value >= size:
                return f"{value / size:g} {unit}"
    return f"{value:,.0f}" if value >= 1 else f"{value:g}"
