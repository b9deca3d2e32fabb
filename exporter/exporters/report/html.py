"""Pieces of HTML. Everything that comes from an image is escaped here."""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence

from exporter.image import Time

__all__ = ["Markup", "bar", "code", "details", "join", "moment", "of_bytes", "seconds", "table", "text"]

_UNITS = ("B", "KiB", "MiB", "GiB", "TiB")


class Markup(str):
    """HTML. Any other text is escaped before it becomes a part of it."""

    __slots__ = ()


def text(value: str | bytes | Markup) -> Markup:
    """Escape a text. Control characters, and bytes that are not UTF-8, become replacement characters."""
    if isinstance(value, Markup):
        return value
    if isinstance(value, bytes):
        value = value.decode("utf-8", "replace")
    shown = "".join(char if char.isprintable() or char in "\n\t" else "�" for char in value)
    return Markup(html.escape(shown))


def join(parts: Iterable[str | Markup], between: str = "") -> Markup:
    """Join pieces, escaping those that are not markup."""
    return Markup(between.join(text(part) for part in parts))


def code(value: str | bytes) -> Markup:
    """A text in a monospaced font."""
    return Markup(f"<code>{text(value)}</code>")


def details(summary: str | Markup, content: Markup) -> Markup:
    """Content that opens on a click."""
    return Markup(f"<details><summary>{text(summary)}</summary>{content}</details>")


def table(
    head: Sequence[str], rows: Iterable[Sequence[str | Markup]], *, right: Sequence[int] = ()
) -> Markup:
    """A table.

    Args:
        head: The titles of the columns.
        rows: The cells.
        right: The indexes of the columns with numbers, which are aligned to the right.
    """
    classes = [' class="n"' if index in right else "" for index in range(len(head))]
    titles = "".join(f"<th{kind}>{text(title)}</th>" for kind, title in zip(classes, head, strict=True))
    lines = (
        "<tr>"
        + "".join(f"<td{kind}>{text(cell)}</td>" for kind, cell in zip(classes, row, strict=True))
        + "</tr>"
        for row in rows
    )
    return Markup(f"<table><thead><tr>{titles}</tr></thead><tbody>{''.join(lines)}</tbody></table>")


def bar(parts: Sequence[tuple[float, str]], title: str) -> Markup:
    """A bar in a row of the full width.

    Args:
        parts: Shares of the width, from 0 to 1, and the classes of their colours.
        title: What it shows, for screen readers and on hovering.
    """
    spans = "".join(
        f'<i class="{kind}" style="width:{share * 100:.2f}%"></i>' for share, kind in parts if share > 0
    )
    return Markup(
        f'<span class="bar" role="img" aria-label="{text(title)}" title="{text(title)}">{spans}</span>'
    )


def of_bytes(size: int) -> str:
    """A size for people: ``12.3 MiB``."""
    value = float(size)
    for unit in _UNITS:
        if value < 1024 or unit == _UNITS[-1]:
            return f"{size} B" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1024
    raise AssertionError


def seconds(value: float) -> str:
    """A duration for people: ``1.23 s``."""
    return f"{value * 1000:.0f} ms" if value < 1 else f"{value:.2f} s"


def moment(time: Time | None) -> str:
    """A time for people, in UTC and to the second; empty if there is none."""
    return "" if time is None else str(Time.from_unix(time.unix)).replace("T", " ").removesuffix("Z")
