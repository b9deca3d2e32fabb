"""Hooks: commands of the operator that decide whether an artifact is published (``before-publish``).

A request chooses a hook by its name. It never has a part in the command.
"""

from __future__ import annotations

import difflib
import os
import re
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from exporter.content.copy import copy_chain
from exporter.content.layout import OCILayout
from exporter.content.programs import run_program
from exporter.content.protocol import Provider
from exporter.content.threads import run_in_thread
from exporter.errors import DeadlineError, FailedPreconditionError, InvalidArgumentError
from exporter.exporters.attribute_help import BEFORE_PUBLISH
from exporter.exporters.base import Exporter, Uses
from exporter.image import Descriptor
from exporter.image.go import text as gotext
from exporter.progress.producer import VertexProgress

DEFAULT_TIMEOUT = 600.0
"""Seconds that a hook may take."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_SIMILAR = 0.8
_VARIABLE = "BUILDKIT_EXPORTER_"


@dataclass(frozen=True, slots=True)
class Hook:
    """A hook.

    Attributes:
        name: Its name.
        command: The command, for ``/bin/sh``.
        timeout: Seconds that it may take.
    """

    name: str
    command: str
    timeout: float

    async def run(
        self,
        root: Descriptor,
        provider: Provider,
        names: Sequence[str],
        *,
        exporter_type: str,
        scratch: Path,
        progress: VertexProgress,
    ) -> None:
        """Run the command for an image, with an OCI layout of it.

        The layout is a copy: what the command does to it changes nothing that is published.

        Args:
            root: The descriptor of the image or index.
            provider: Provides its blobs.
            names: The names under which it is about to be published.
            exporter_type: The type of the output.
            scratch: A directory for the layout, which is removed afterwards.
            progress: Receives the output of the command.

        Raises:
            DeadlineError: it takes too long.
            FailedPreconditionError: it fails.
        """
        with progress.status(f"running hook {self.name} for {root.digest}"):
            place = Path(await run_in_thread(_directory, scratch))
            try:
                layout = await OCILayout.open(place / "layout")
                await copy_chain(layout, provider, root)
                await layout.publish(root, names)
                facts = {
                    "HOOK": self.name,
                    "TYPE": exporter_type,
                    "DIGEST": root.digest,
                    "NAME": ",".join(names),
                    "LAYOUT": str(place / "layout"),
                }
                await self._run(facts, place, progress)
            finally:
                await run_in_thread(partial(shutil.rmtree, place, ignore_errors=True))

    async def _run(self, facts: Mapping[str, str], place: Path, progress: VertexProgress) -> None:
        problem = f"nothing was published: hook {self.name}"
        try:
            result = await run_program(
                ["/bin/sh", "-c", self.command],
                environment={**os.environ, **{_VARIABLE + key: value for key, value in facts.items()}},
                directory=place,
                on_output=progress.log,
                timeout=self.timeout,
            )
        except DeadlineError as error:
            raise DeadlineError(
                f"{problem} did not end within {self.timeout:g} s (--hook-timeout)"
            ) from error
        if result.status != 0:
            raise FailedPreconditionError(f"{problem} refused {facts['DIGEST']}: {result.explanation}")


@dataclass(frozen=True, slots=True)
class Hooks:
    """The hooks that an operator has configured.

    Attributes:
        commands: Commands by name.
        timeout: Seconds that each of them may take.
    """

    commands: Mapping[str, str] = field(default_factory=dict)
    timeout: float = DEFAULT_TIMEOUT

    @classmethod
    def parse(cls, texts: Sequence[str], timeout: float = DEFAULT_TIMEOUT) -> Hooks:
        """Read hooks from the form ``NAME=COMMAND``.

        Raises:
            InvalidArgumentError: one is malformed, or a name occurs twice.
        """
        commands: dict[str, str] = {}
        for text in texts:
            name, equals, command = text.partition("=")
            if not equals or not command.strip() or _NAME.fullmatch(name) is None:
                raise InvalidArgumentError(
                    f"{text!r} is not NAME=COMMAND, with a NAME of letters, digits, dots and dashes"
                )
            if name in commands:
                raise InvalidArgumentError(f"there are two hooks {name}")
            commands[name] = command
        return cls(commands, timeout)

    def of(self, exporter: Exporter) -> Hook | None:
        """The hook of an export; None if it has none.

        Raises:
            InvalidArgumentError: there is no such hook, or the attribute seems to be misspelt. Without an
                error, the artifact would be published.
        """
        name = exporter.attrs.get(BEFORE_PUBLISH, "")
        if name and name not in self.commands:
            known = ", ".join(sorted(self.commands)) or "none"
            raise InvalidArgumentError(
                f"there is no hook {gotext.quote(name)} (available: {known}): operators configure them with "
                "--hook NAME=COMMAND",
                field=f"attrs[{BEFORE_PUBLISH}]",
            )
        if name:
            return Hook(name, self.commands[name], self.timeout)
        declared = {attribute.name for attribute in type(exporter).attributes}
        for key in difflib.get_close_matches(BEFORE_PUBLISH, exporter.attrs, n=3, cutoff=_SIMILAR):
            if key not in declared and key != BEFORE_PUBLISH:
                raise InvalidArgumentError(
                    f"there is no attribute {key}: did you mean {BEFORE_PUBLISH}?", field=f"attrs[{key}]"
                )
        return None


def uses_of(exporter: Exporter) -> Uses:
    """What an export uses of a build result. A hook gets an image, which needs layers."""
    return exporter.uses | Uses.LAYERS if exporter.attrs.get(BEFORE_PUBLISH) else exporter.uses


def _directory(scratch: Path) -> str:
    return tempfile.mkdtemp(prefix="hook-", dir=scratch.absolute())
