"""The page: the images of a build, as HTML without links to other files or hosts."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources

from exporter.exporters.report.contents import Contents, LayerContents
from exporter.exporters.report.html import (
    Markup,
    bar,
    code,
    details,
    join,
    moment,
    of_bytes,
    seconds,
    table,
    text,
)
from exporter.exporters.report.statements import Statement
from exporter.image import History
from exporter.images import Image

__all__ = ["ImageReport", "Step", "render"]

_TAG = Markup(' <span class="tag">base image</span>')
_RAW_LIMIT = 256 << 10
"""Bytes of a predicate's JSON that the page contains."""

_STYLE = resources.files(__package__).joinpath("style.css").read_text("utf-8")


@dataclass(frozen=True, slots=True)
class ImageReport:
    """What the page tells about one image.

    Attributes:
        title: The name of its platform.
        image: The image.
        contents: What is in its layers.
        statements: The attestations of its build.
    """

    title: str
    image: Image
    contents: Contents
    statements: Sequence[Statement]


@dataclass(frozen=True, slots=True)
class Step:
    """A piece of work of this export.

    Attributes:
        name: What was done.
        start: When it began, in seconds after the export's beginning.
        duration: How long it took, in seconds.
    """

    name: str
    start: float
    duration: float


def render(title: str, images: Sequence[ImageReport], steps: Sequence[Step], *, top: int) -> Iterator[bytes]:
    """Write the page, in pieces.

    Args:
        title: The page's title.
        images: The images.
        steps: The timeline of the export; none to leave it out.
        top: How many files each list has at most.
    """
    yield (
        f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>{text(title)}</title>'
        '<meta name="viewport" content="width=device-width">'
        f"<style>{_STYLE}</style></head><body><h1>{text(title)}</h1>\n"
    ).encode()
    for report in images:
        if len(images) > 1:
            yield f"<h2>{text(report.title)}</h2>\n".encode()
        for section in _image(report, top):
            yield f"{section}\n".encode()
    if steps:
        yield f"<h2>This export</h2>\n{_timeline(steps)}\n".encode()
    yield b"</body></html>\n"


def _image(report: ImageReport, top: int) -> Iterator[Markup]:
    image, contents = report.image, report.contents
    yield Markup(f'<p class="dim">{code(image.digest)}</p>')
    yield _facts(report)
    yield _section("Layers", _layers(image, contents, top))
    yield _section("Space that is used but not visible", _waste(contents, top))
    yield _section("Largest files", _largest(contents, top))
    yield _section("History", _history(image.history))
    yield _section("Configuration", _configuration(image))
    if report.statements:
        yield _section("Attestations", join(_statement(statement, top) for statement in report.statements))


def _section(title: str, content: Markup) -> Markup:
    return Markup(f"<h3>{text(title)}</h3>{content}")


def _facts(report: ImageReport) -> Markup:
    image, contents, base = report.image, report.contents, report.image.base_layers
    share = contents.hidden_size / contents.size if contents.size else 0.0
    facts = (
        (of_bytes(sum(layer.size for layer in image.layers)), "compressed layers"),
        (of_bytes(contents.size), "files in all layers"),
        (f"{of_bytes(contents.hidden_size)} ({share:.1%})", "not visible in the image"),
        (str(len(image.layers)), "layers" + (f", {base} from the base image" if base else "")),
        (report.title, "platform"),
        (moment(image.created) or "not recorded", "created (UTC)"),
    )
    return Markup(
        '<div class="facts">'
        + "".join(f"<div><b>{text(value)}</b>{text(label)}</div>" for value, label in facts)
        + "</div>"
    )


def _layers(image: Image, contents: Contents, top: int) -> Markup:
    """The layers beside the history entries that they come from."""
    if not image.layers:
        return Markup("<p>The image has no layers.</p>")
    largest = max([1, *(layer.size for layer in contents.layers)])
    entries = [entry for entry in image.history if not entry.empty_layer]
    legend = (
        '<p class="dim"><span class="key kept"></span>visible files '
        '<span class="key base"></span>visible files of the base image '
        '<span class="key waste"></span>hidden by a later layer</p>'
    )
    rows = [Markup(legend)]
    for index, layer in enumerate(image.layers):
        inside = contents.layers[index]
        is_base = index < image.base_layers
        entry = entries[index] if index < len(entries) else History()
        visible = inside.size - inside.hidden_size
        step = join([code(entry.created_by or "unknown step"), _TAG if is_base else ""])
        shares = [
            (visible / largest, "base" if is_base else "kept"),
            (inside.hidden_size / largest, "waste"),
        ]
        numbers = f"{_counted(inside)}; {of_bytes(layer.size)} compressed; "
        rows.append(
            _row(
                join([Markup(f'<span class="dim">{index + 1}</span> '), step]),
                of_bytes(inside.size),
                bar(shares, f"{of_bytes(visible)} visible, {of_bytes(inside.hidden_size)} hidden"),
                Markup(f'<p class="dim">{text(numbers)}{code(layer.digest)}</p>'),
                _files_of(contents, index, top),
            )
        )
    return join(rows)


def _row(title: str | Markup, size: str, *below: Markup) -> Markup:
    head = f"<div><span>{text(title)}</span><span>{text(size)}</span></div>"
    return Markup(f'<div class="row">{head}{join(below)}</div>')


def _counted(layer: LayerContents) -> str:
    counted = _files(layer.files)
    return f"{counted}, removes {layer.removed}" if layer.removed else counted


def _files(count: int) -> str:
    return "1 file" if count == 1 else f"{count} files"


def _files_of(contents: Contents, index: int, top: int) -> Markup:
    files = contents.largest(top, index)
    if not files:
        return Markup("")
    rows = ((of_bytes(file.size), code(file.path)) for file in files)
    return details("Largest visible files", table(["size", "path"], rows, right=[0]))


def _waste(contents: Contents, top: int) -> Markup:
    hidden = contents.largest_hidden(top)
    if not hidden:
        return Markup("<p>No layer hides files of another one.</p>")
    total = sum(layer.hidden_files for layer in contents.layers)
    rows = (
        (of_bytes(one.file.size), code(one.file.path), str(one.file.layer + 1), str(one.by + 1))
        for one in hidden
    )
    return join(
        [
            Markup(
                f"<p>{text(_files(total))}, {text(of_bytes(contents.hidden_size))}: later layers remove or "
                "replace them, but every pull still transfers them. The largest:</p>"
            ),
            table(["size", "path", "in layer", "hidden by"], rows, right=[0, 2, 3]),
        ]
    )


def _largest(contents: Contents, top: int) -> Markup:
    files = contents.largest(top)
    if not files:
        return Markup("<p>The image has no files.</p>")
    rows = ((of_bytes(file.size), code(file.path), str(file.layer + 1)) for file in files)
    return table(["size", "path", "layer"], rows, right=[0, 2])


def _history(history: Sequence[History]) -> Markup:
    """The steps of the build, with the time from one to the next."""
    if not history:
        return Markup("<p>The image has no history.</p>")
    rows = []
    before = None
    for entry in history:
        since = ""
        if entry.created is not None and before is not None and entry.created >= before:
            since = "+" + seconds((entry.created.unix_nano - before.unix_nano) / 1e9)
        before = entry.created or before
        rows.append(
            (moment(entry.created), since, code(entry.created_by), "" if entry.empty_layer else "layer")
        )
    return table(["created (UTC)", "", "step", ""], rows, right=[1])


def _configuration(image: Image) -> Markup:
    rows: list[tuple[str, str | Markup]] = [
        ("Entrypoint", code(" ".join(image.entrypoint))),
        ("Command", code(" ".join(image.cmd))),
        ("User", code(image.user)),
        ("Working directory", code(image.working_dir)),
        ("Environment", join((code(f"{name}={value}") for name, value in image.env.items()), "<br>")),
        ("Labels", join((code(f"{name}={value}") for name, value in image.labels.items()), "<br>")),
        ("Annotations", join((code(f"{name}={value}") for name, value in image.annotations.items()), "<br>")),
    ]
    return table(["", ""], [row for row in rows if row[1] not in {"", "<code></code>"}])


def _statement(statement: Statement, top: int) -> Markup:
    predicate = statement.predicate
    parts = [
        Markup(
            f"<p>{code(statement.predicate_type or 'unknown type')} ({text(of_bytes(statement.size))})</p>"
        )
    ]
    if predicate is None:
        return join([*parts, Markup("<p>Not a JSON object.</p>")])
    for title, found in (("Materials", _materials(predicate)), ("Packages", _packages(predicate))):
        if found:
            shown = found if title == "Materials" else found[:top]
            label = f"{title}: {len(found)}" + (f", the first {top}" if len(found) > len(shown) else "")
            parts.append(
                details(
                    label,
                    table(["name", "version"], ((code(name), code(version)) for name, version in shown)),
                )
            )
    raw = _raw(predicate)
    if raw is not None:
        parts.append(details("JSON", Markup(f"<pre>{text(raw)}</pre>")))
    return join(parts)


def _raw(predicate: Mapping[str, object]) -> str | None:
    """The indented JSON; None if it is too large. Indentation can be many times the size of the rest."""
    pieces, size = [], 0
    for piece in json.JSONEncoder(indent=2, ensure_ascii=False).iterencode(predicate):
        size += len(piece)
        if size > _RAW_LIMIT:
            return None
        pieces.append(piece)
    return "".join(pieces)


def _materials(predicate: Mapping[str, object]) -> list[tuple[str, str]]:
    """What a build used, according to its provenance (SLSA 0.2 or 1)."""
    definition = predicate.get("buildDefinition")
    found = (
        definition.get("resolvedDependencies") if isinstance(definition, dict) else predicate.get("materials")
    )
    return [
        (
            str(material.get("uri", "")),
            ", ".join(f"{kind}:{value}" for kind, value in _object(material.get("digest")).items()),
        )
        for material in _objects(found)
    ]


def _packages(predicate: Mapping[str, object]) -> list[tuple[str, str]]:
    """The packages of an SPDX document."""
    return sorted(
        (str(package.get("name", "")), str(package.get("versionInfo", "")))
        for package in _objects(predicate.get("packages"))
    )


def _objects(value: object) -> Iterable[Mapping[str, object]]:
    return (item for item in value if isinstance(item, dict)) if isinstance(value, list) else ()


def _object(value: object) -> Mapping[str, object]:
    return value if isinstance(value, dict) else {}


def _timeline(steps: Sequence[Step]) -> Markup:
    total = max([1e-9, *(step.start + step.duration for step in steps)])
    return join(
        _row(
            step.name,
            seconds(step.duration),
            bar(
                [(step.start / total, "none"), (max(step.duration / total, 0.002), "kept")],
                f"{seconds(step.duration)}, from {seconds(step.start)}",
            ),
        )
        for step in steps
    )
