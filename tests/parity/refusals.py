"""BuildKit's refusals of wrong options and results, and ours."""

from __future__ import annotations

import base64
import json
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.builds import error_cases, scenario
from tests.parity.replay import replay
from tests.recordings import error_source

_SOLVER_PREFIX = "failed to solve: "

# What a message begins with, and which output or what in a saved source is wrong.
_AROUND = re.compile(r"^(Usage: .*\n)?error: (--output type=[a-z]+: |…/[a-z.]+: [a-z_]+: )?")

_SAME_PATH = "local exporter, same path in two platforms without split"

OTHER_WORDS = {
    "refs without a platforms mapping": "BuildKit's daemon refuses it before it asks an exporter. "
    "What we say is what BuildKit's exporters would say.",
    "push to a registry that is not there": "The words are those of Go's network library.",
    _SAME_PATH: "BuildKit merges the platforms in an order that is random, and names the two that met. "
    "Of this case there is no recorded result; here it is another one.",
}
"""What is refused, too, but cannot be in the same words."""

# Three platforms of the same files.
_SAME_FILES = "llb-multi-shared"


@dataclass(frozen=True)
class Refusal:
    """An answer of BuildKit, and ours.

    Attributes:
        what: The case.
        theirs: What BuildKit said; None if it accepted the options.
        ours: The same of us.
    """

    what: str
    theirs: str | None
    ours: str | None

    @property
    def is_equal(self) -> bool:
        """Whether the answers are the same; we may say where a value came from, and what to do about it."""
        if self.theirs is None or self.ours is None:
            return self.theirs == self.ours
        return _AROUND.sub("", self.ours).startswith(self.theirs)


def refusals(directory: Path) -> list[Refusal]:
    """Ask for all that BuildKit was asked for.

    Args:
        directory: An empty one.
    """
    found = []
    for number, case in enumerate(error_cases()):
        place = directory / str(number)
        place.mkdir()
        found.append(_refusal(case, place))
    return found


def _refusal(case: dict[str, Any], directory: Path) -> Refusal:
    name = error_source(case)
    if case["what"] == _SAME_PATH:
        name = _SAME_FILES
    source = directory / "source"
    shutil.copytree(scenario(name), source)
    _change_metadata(source / "source.json", case)
    version = {"compatibility_version": case["compatibility_version"] or 0}
    (source / "build.json").write_text(json.dumps(version))
    exporter = case["exporter"]
    done = replay(source, exporter["type"], exporter["attrs"], directory)
    assert done.status == 0 or not done.output.exists(), f"{case['what']}: something was written"
    theirs = case["error"].removeprefix(_SOLVER_PREFIX) if case["error"] is not None else None
    return Refusal(case["what"], theirs, done.error.replace(str(source), "…") if done.status else None)


def _change_metadata(path: Path, case: dict[str, Any]) -> None:
    document = json.loads(path.read_bytes())
    for key in case["metadata_dropped"] or ():
        del document["metadata"][key]
    for key, value in (case["metadata_added"] or {}).items():
        document["metadata"][key] = base64.b64encode(value.encode()).decode()
    path.write_text(json.dumps(document))
