"""Showing images as tables for people."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from exporter.cli.inspect.view import ArtifactView, Contents, ImageView
from exporter.cli.printing import UNKNOWN, show_digest, show_moment
from exporter.image import Descriptor
from exporter.image.keys import PREDICATE_TYPE
from exporter.progress.sanitize import clean
from exporter.progress.units import format_bytes

_SHORT_COMMAND = 60
_SHELL = "/bin/sh -c "
_NO_OPERATION = "#(nop)"
_INDENT = 2
_WIDE = 100  # columns; the minimum width for showing diff IDs next to commands


def render_contents(contents: Contents, *, truncate: bool, width: int) -> Iterator[RenderableType]:
    """Render all images and artifacts, separated by empty lines.

    Args:
        contents: The images and artifacts.
        truncate: Whether to shorten digests, times and commands.
        width: The width of the output. If it is narrow and `truncate` is set, diff IDs are omitted.
    """
    with_diff_ids = width >= _WIDE or not truncate
    for position, item in enumerate(contents.items):
        if position:
            yield ""
        if isinstance(item, ImageView):
            yield _image(item, truncate=truncate, with_diff_ids=with_diff_ids)
        else:
            yield _artifact(item, truncate=truncate)


def _image(image: ImageView, *, truncate: bool, with_diff_ids: bool) -> RenderableType:
    facts = Table.grid(padding=(0, 2))
    facts.add_column(no_wrap=True, style="dim")
    facts.add_column(overflow="fold")
    for name, value in _facts(image):
        if value:
            facts.add_row(name, Text("\n".join(map(clean, value.split("\n")))))
    parts: list[RenderableType] = [_title(image.names, "(no name)"), Padding.indent(facts, _INDENT)]
    parts.extend(Text(f"  ! {problem}", style="red") for problem in image.problems)
    if image.steps:
        steps = _steps(image, truncate=truncate, with_diff_ids=with_diff_ids)
        parts.extend(("", Padding.indent(steps, _INDENT)))
    return Group(*parts)


def _facts(image: ImageView) -> Iterator[tuple[str, str]]:
    yield "Platform", image.platform.format_all()
    if image.manifest is not None:
        yield "Manifest", f"{image.manifest.digest} ({image.manifest.media_type})"
    yield "Config", image.config_digest
    yield "Created", str(image.created) if image.created is not None else ""
    yield "Author", image.author
    size = format_bytes(image.size) if image.size is not None else "size unknown"
    yield "Layers", f"{len(image.layers)} ({size})" if image.layers else "none"
    for key, value in image.runtime.items():
        yield key, _runtime_value(key, value)


def _runtime_value(key: str, value: object) -> str:
    if isinstance(value, str):
        return value
    if key == "Env" and isinstance(value, list):
        return "\n".join(map(str, value))
    if isinstance(value, Mapping) and key == "Labels":
        return "\n".join(f"{name}={text}" for name, text in sorted(value.items()))
    if isinstance(value, Mapping) and key in {"ExposedPorts", "Volumes"}:
        return " ".join(sorted(value))
    return json.dumps(value, ensure_ascii=False)


def _steps(image: ImageView, *, truncate: bool, with_diff_ids: bool) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    table.add_column("#", justify="right", no_wrap=True)
    table.add_column("CREATED", no_wrap=True)
    table.add_column("SIZE", justify="right", no_wrap=True)
    table.add_column("LAYER", no_wrap=truncate, overflow="fold")
    if with_diff_ids:
        table.add_column("DIFF ID", no_wrap=truncate, overflow="fold")
    table.add_column("CREATED BY", overflow="fold")
    for step in image.steps:
        number, size, digest, diff_id = "", "0B", "", ""
        if step.layer is not None:
            layer = image.layers[step.layer]
            number = str(step.layer + 1)
            size = format_bytes(layer.size) if layer.size is not None else UNKNOWN
            digest = show_digest(layer.digest, truncate=truncate)
            diff_id = show_digest(layer.diff_id, truncate=truncate)
        table.add_row(
            number,
            show_moment(step.created, truncate=truncate),
            size,
            digest,
            *([diff_id] if with_diff_ids else []),
            Text(_short_command(step.created_by) if truncate else clean(step.created_by)),
            style="dim" if step.layer is None else "",
        )
    return table


def _artifact(artifact: ArtifactView, *, truncate: bool) -> RenderableType:
    if artifact.subject:
        what = f"Attestations of {artifact.subject}"
    else:
        what = f"No image: {artifact.manifest.artifact_type or artifact.manifest.media_type}"
    parts: list[RenderableType] = [
        _title(artifact.names, "(no name)"),
        Text(f"  {clean(what)}"),
        Text(f"  Manifest  {artifact.manifest.digest}"),
    ]
    if artifact.blobs:
        parts.append(Padding.indent(_blobs(artifact.blobs, truncate=truncate), _INDENT))
    return Group(*parts)


def _blobs(blobs: Sequence[Descriptor], *, truncate: bool) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    table.add_column("SIZE", justify="right", no_wrap=True)
    table.add_column("BLOB", no_wrap=truncate, overflow="fold")
    table.add_column("TYPE", overflow="fold")
    for blob in blobs:
        table.add_row(
            format_bytes(blob.size),
            show_digest(blob.digest, truncate=truncate),
            Text(clean(blob.annotations.get(PREDICATE_TYPE, blob.media_type))),
        )
    return table


def _title(names: Sequence[str], default: str) -> Text:
    return Text(clean(", ".join(names)) or default, style="bold")


def _short_command(command: str) -> str:
    """Shorten ``created_by`` for display: a single line without the shell prefix."""
    text = " ".join(clean(command).removeprefix(_SHELL).removeprefix(_NO_OPERATION).split())
    return text if len(text) <= _SHORT_COMMAND else f"{text[: _SHORT_COMMAND - 1]}…"
