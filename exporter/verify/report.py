"""What was checked, and what came out."""

from __future__ import annotations

import enum
from collections.abc import Iterable
from dataclasses import dataclass, field


class Outcome(enum.StrEnum):
    """What a check came to."""

    OK = "ok"
    NOTE = "note"
    """Allowed, but somebody may stumble over it."""
    PROBLEM = "problem"
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that a check has found.

    Attributes:
        what: What is wrong.
        advice: What to do about it.
        where: Which part of the object, such as ``layers[1].size``; empty: the whole.
        is_problem: False if it is but worth a note.
    """

    what: str
    advice: str = ""
    where: str = ""
    is_problem: bool = True


@dataclass(frozen=True, slots=True)
class Subject:
    """What is checked.

    Attributes:
        kind: ``layout``, ``index``, ``manifest``, ``config``, ``layer``, ``statement``, ``blob``, ``image``.
        image: The image that it is part of: its names, or how it is listed.
        path: Where in the image, such as ``manifests[0].layers[2]``; empty: the image itself.
        digest: As it should be; empty if it has none.
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
        findings: Nothing if all is well.
        skipped: Why it was not checked.
    """

    subject: Subject
    check: str
    findings: tuple[Finding, ...] = ()
    skipped: str = ""

    @property
    def outcome(self) -> Outcome:
        """The worst that was found."""
        if any(finding.is_problem for finding in self.findings):
            return Outcome.PROBLEM
        if self.findings:
            return Outcome.NOTE
        return Outcome.SKIPPED if self.skipped else Outcome.OK


@dataclass(slots=True)
class Report:
    """All checks, in the order of what they are about."""

    results: list[Result] = field(default_factory=list)

    def add(
        self, subject: Subject, check: str, findings: Iterable[Finding] = (), *, skipped: str = ""
    ) -> Outcome:
        """Note down a check."""
        result = Result(subject, check, tuple(findings), skipped)
        self.results.append(result)
        return result.outcome

    def count(self, outcome: Outcome) -> int:
        """How many checks came to this."""
        return sum(result.outcome is outcome for result in self.results)

    @property
    def is_ok(self) -> bool:
        """Whether there is no problem."""
        return self.count(Outcome.PROBLEM) == 0
