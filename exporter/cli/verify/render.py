"""Rendering a report as a table for people, or as JSON for programs."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from exporter.cli.printing import show_digest
from exporter.progress.sanitize import clean
from exporter.verify import Finding, Outcome, Report, Result

_DIGEST = re.compile(r"\b[0-9a-f]{64}\b")
_STYLES = {
    Outcome.OK: "green",
    Outcome.NOTE: "yellow",
    Outcome.PROBLEM: "bold red",
    Outcome.SKIPPED: "dim",
}


def render_report(report: Report, *, truncate: bool, only_problems: bool = False) -> Iterator[RenderableType]:
    """Render all checks, with a table per image.

    Args:
        report: The report.
        truncate: Whether to shorten digests.
        only_problems: Whether to omit checks without problems.
    """
    tables: dict[str, Table] = {}
    for result in report.results:
        if only_problems and result.outcome is not Outcome.PROBLEM:
            continue
        table = tables.get(result.subject.image)
        if table is None:
            table = tables[result.subject.image] = _table(truncate=truncate)
        table.add_row(*_cells(result, truncate=truncate))
    for image, table in tables.items():
        yield Text(clean(image), style="bold")
        yield table
        yield ""
    yield _summary(report)


def to_document(report: Report) -> dict[str, Any]:
    """Convert all checks to plain values."""
    return {
        "ok": report.is_ok,
        "problems": report.count(Outcome.PROBLEM),
        "notes": report.count(Outcome.NOTE),
        "checks": [_to_dict(result) for result in report.results],
    }


def _table(*, truncate: bool) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    table.add_column("OBJECT", no_wrap=True)
    table.add_column("PLACE", overflow="fold")
    table.add_column("DIGEST", no_wrap=truncate, overflow="fold")
    table.add_column("CHECK", no_wrap=True)
    table.add_column("RESULT", overflow="fold")
    return table


def _cells(result: Result, *, truncate: bool) -> Iterator[Text]:
    subject = result.subject
    yield Text(subject.kind)
    yield Text(clean(_place(subject.path, truncate=truncate)) or "-")
    yield Text(show_digest(subject.digest, truncate=truncate))
    yield Text(result.check)
    yield _result(result)


def _place(path: str, *, truncate: bool) -> str:
    """Format a path. In an archive it may contain a digest, which would fill most of the table's width."""
    if not truncate:
        return path
    return _DIGEST.sub(lambda found: show_digest(f":{found[0]}", truncate=True), path)


def _result(result: Result) -> Text:
    text = Text(result.outcome.value, style=_STYLES[result.outcome])
    lines = [result.skipped] if result.skipped else [_explanation(finding) for finding in result.findings]
    for position, line in enumerate(lines):
        text.append(": " if position == 0 else "\n", style="not bold")
        text.append(clean(line), style="not bold")
    return text


def _explanation(finding: Finding) -> str:
    text = f"{finding.where}: {finding.what}" if finding.where else finding.what
    return f"{text} ({finding.advice})" if finding.advice else text


def _summary(report: Report) -> Text:
    problems, notes = report.count(Outcome.PROBLEM), report.count(Outcome.NOTE)
    text = Text(f"{len(report.results)} checks: ")
    if problems:
        text.append(f"{problems} problem{'s' if problems > 1 else ''}", style=_STYLES[Outcome.PROBLEM])
    else:
        text.append("no problems", style=_STYLES[Outcome.OK])
    if notes:
        text.append(f", {notes} note{'s' if notes > 1 else ''}", style=_STYLES[Outcome.NOTE])
    return text


def _to_dict(result: Result) -> dict[str, Any]:
    subject = result.subject
    return {
        "object": subject.kind,
        "image": subject.image,
        "path": subject.path,
        "digest": subject.digest or None,
        "check": result.check,
        "result": result.outcome.value,
        "reason": result.skipped or None,
        "findings": [
            {
                "where": finding.where or None,
                "what": finding.what,
                "advice": finding.advice or None,
                "problem": finding.is_problem,
            }
            for finding in result.findings
        ],
    }
