"""The results of a verification."""

from __future__ import annotations

import enum
from collections.abc import Iterable
from dataclasses import dataclass, field


class Outcome(enum.StrEnum):
    """The outcome of a check."""

    OK = "ok"
    NOTE = "note"
    """Allowed, but may cause problems with some tools."""
    PROBLEM = "problem"
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that a check found.

    Attributes:
        what: What is wrong.
        advice: What to do about it.
        where: The part of the object, such as ``layers[1].size``; empty for the whole object.
        is_problem: False if it is only a note.
    """

    what: str
    advice: str = ""
    where: str = ""
    is_problem: bool = True


@dataclass(frozen=True, slots=True)
class Subject:
    """The object of a check.

    Attributes:
        kind: ``layout``, ``index``, ``manifest``, ``config``, ``layer``, ``statement``, ``blob``, ``image``.
        image: The image that it belongs to: its names, or its place in an index.
        path: Its place in the image, such as ``manifests[0].layers[2]``; empty for the image itself.
        digest: The expected digest; empty if it has none.
    """

    kind: str
    image: str
    path: str = ""
    digest: str = ""


@dataclass(frozen=True, slots=True)
class Result:
    """One check of one object.

    Attributes:
        subject: The object.
        check: ``digest``, ``size``, ``media type``, ``diff ID``, …
        findings: What the check found; empty if everything is in order.
        skipped: Why it was not checked.
    """

    subject: Subject
    check: str
    findings: tuple[Finding, ...] = ()
    skipped: str = ""

    @property
    def outcome(self) -> Outcome:
        """The most severe of the findings."""
        if any(finding.is_problem for finding in self.findings):
            return Outcome.PROBLEM
        if self.findings:
            return Outcome.NOTE
        return Outcome.SKIPPED if self.skipped else Outcome.OK


@dataclass(slots=True)
class Report:
    """All results, ordered by subject."""

    results: list[Result] = field(default_factory=list)

    def add(
        self, subject: Subject, check: str, findings: Iterable[Finding] = (), *, skipped: str = ""
    ) -> Outcome:
        """Record a check."""
        result = Result(subject, check, tuple(findings), skipped)
        self.results.append(result)
        return result.outcome

    def count(self, outcome: Outcome) -> int:
        """The number of checks with this outcome."""
        return sum(result.outcome is outcome for result in self.results)

    @property
    def is_ok(self) -> bool:
        """Whether there is no problem."""
        return self.count(Outcome.PROBLEM) == 0
