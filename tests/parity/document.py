"""The text of docs/parity.md."""

from __future__ import annotations

import tempfile
import textwrap
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from tests.builds import scenario_names
from tests.parity.compare import DIFFERENT, EQUAL, FAILS, NONE, Row, compare
from tests.parity.refusals import OTHER_WORDS, Refusal, refusals
from tests.parity.registry import running_registry

_HEAD = """\
# Parity with BuildKit

<!-- Made by scripts/parity; a test makes it anew and compares. -->

Every build in `tests/data/builds` was recorded on a real daemon: BuildKit (commit 73ed6825c5, after
v0.32.2) or dockerd 20.10.24. `scripts/parity` exports each of them again with the public command line. It
uses nothing of the recording but the build's *result*:

    buildkit-exporter export --source BUILD --output type=TYPE,ATTRIBUTES
    buildkit-exporter verify RESULT

Type and attributes are the recorded ones. The outcome is compared with what the daemon made.
"""

_COMPARED = {
    "index, manifest, config": "digests",
    "attestation": "digests of attestation manifests, of their configs, and of the statements in them",
    "layers, files": (
        "digests of layers; of the types `tar` and `local` the tarball to the byte, and names, modes,"
        " owners, times, links, devices and contents of the files"
    ),
    "response": "keys and values of the exporter's response",
    "progress": "names of the exporter's vertex and of everything reported on it, in order",
    "verify": "`buildkit-exporter verify` of the result; of pushed images in the registry, too",
}

_LEGEND = f"""\
`{EQUAL}` equal, `{DIFFERENT}` not equal, `{NONE}` does not apply. Response and progress mention digests: if
one differs, it is replaced by the recorded one before they are compared.

The time of the export is part of the outcome in two places: as `org.opencontainers.image.created` of the
descriptor in the response of `oci` and `docker`, and as the time of `provenance.json` in directories.
These times are compared only where an epoch determines them.
"""

NOTES = {
    "cache": (
        "The daemon embeds cache data into the config (`moby.buildkit.cache.v0`). It makes the data "
        "itself and passes it to its exporter beside the result. Recordings have it in the exported "
        "config only, and it cannot be computed from the rest: it contains the solver's keys of the "
        "build's steps (digests of their definitions and of the contents that they used) and the "
        "times at which the solver stored their results. With the data in `build.json`, all "
        "columns are equal; the script checks that."
    ),
    "cache-progress": "What the daemon reports while it makes that data is not compared.",
    "compressor": (
        "`rewrite-timestamp` makes new layers. Here, another compressor than Go's compresses them. "
        "Their contents are the same, and so is the config, which has the digests of the "
        "uncompressed layers. "
        "Behind the proxy, the daemon makes these layers, and the digests are the daemon's."
    ),
    "missing": (
        "Exported with `store=false`. The recorded daemon had no image store and did not fetch the "
        "layers of the base image. So the recording does not have them, and they cannot be stored."
    ),
    "unnamed": (
        "The recorded daemon had no image store. A daemon that has one reports `naming to …`, as "
        "the builds recorded with containerd show."
    ),
    "push": "Pushed to a registry that the script runs, whose address replaces the recorded one.",
    "files": (
        "Made from layers, not from a daemon's snapshots. Layers have times in whole seconds, and file "
        "capabilities as their only extended attributes. What recordings have beyond that is ignored."
    ),
    "moby": (
        "That version answers with the image ID alone (`containerimage.digest`), and only that is "
        "compared. Our response has the keys of today's moby."
    ),
}
"""Reasons, in the order in which they are listed."""

_COLUMNS = (
    *("build", "output", "index", "manifest", "config", "attestation", "layers, files"),
    *("response", "progress", "verify", "notes"),
)


def parity_document(progress: Callable[[str], None] = lambda text: None) -> str:
    """Replay all builds, ask for all refusals, and tell how it went.

    Args:
        progress: Told what is being done.
    """
    with tempfile.TemporaryDirectory() as directory:
        root = Path(directory)
        for place in ("registry", "builds", "refusals"):
            (root / place).mkdir()
        with running_registry(root / "registry") as registry:
            rows = []
            names = scenario_names()
            for number, name in enumerate(names, 1):
                progress(f"{number} of {len(names)}: {name}")
                (root / "builds" / name).mkdir()
                rows.append(compare(name, registry, root / "builds" / name))
        progress("refusals")
        answers = refusals(root / "refusals")
    return "\n".join([_HEAD, *_builds(rows), *_refusals(answers)])


def _builds(rows: Sequence[Row]) -> list[str]:
    used = [note for note in NOTES if any(note in row.notes for row in rows)]
    numbers = {note: number for number, note in enumerate(used, 1)}
    lines = [_summary(rows), "", *_table(("column", "what is compared"), _COMPARED.items()), ""]
    lines += [_LEGEND, *_table(_COLUMNS, (_cells(row, numbers) for row in rows)), ""]
    lines += [f"{number}. {NOTES[note]}" for note, number in numbers.items()]
    return [*lines, ""]


def _summary(rows: Sequence[Row]) -> str:
    unequal = [row for row in rows if DIFFERENT in row.marks]
    reasons = Counter(note for row in unequal for note in ("cache", "compressor") if note in row.notes)
    assert reasons.total() == len(unequal), "a difference has no reason"
    failed = sum(row.verify == FAILS for row in rows)
    verified = sum(row.verify not in {FAILS, NONE} for row in rows)
    text = (
        f"Of {len(rows)} builds, {len(rows) - len(unequal)} are equal in all columns. {len(unequal)} are "
        f"not: in {reasons['compressor']}, another compressor has compressed layers anew, and in "
        f"{reasons['cache']} the recording lacks cache data that the daemon passed to its exporter. "
        f"`verify` passes for {'all' if not failed else 'only'} {verified} images."
    )
    return "\n".join(textwrap.wrap(text, 106, break_on_hyphens=False))


def _cells(row: Row, numbers: dict[str, int]) -> list[str]:
    notes = " ".join(str(number) for note, number in numbers.items() if note in row.notes)
    return [row.name, f"`{row.output}`", *row.marks, notes]


def _refusals(answers: Sequence[Refusal]) -> list[str]:
    refused = [answer for answer in answers if answer.theirs is not None]
    equal = [answer for answer in refused if answer.is_equal]
    accepted = [answer for answer in answers if answer.theirs is None and answer.ours is None]
    text = (
        f"`errors.json` has BuildKit's answers to {len(answers)} options and results that are wrong or "
        f"contradict each other. BuildKit refuses {len(refused)} of them. We refuse the same, "
        f"{len(equal)} in BuildKit's words (our text may add which output or file is meant, and what to do). "
        f"Both accept the other {len(accepted)}."
    )
    lines = ["## Refusals", "", *textwrap.wrap(text, 106, break_on_hyphens=False), ""]
    assert len(accepted) + len(refused) == len(answers), "something is refused that BuildKit accepts"
    assert all(answer.ours is not None for answer in refused), "something is accepted that BuildKit refuses"
    others = [answer for answer in refused if not answer.is_equal]
    lines += _table(
        ("case", "in other words since", "BuildKit", "ours"),
        (
            (answer.what, OTHER_WORDS[answer.what], f"`{answer.theirs}`", f"`{answer.ours}`")
            for answer in others
        ),
    )
    lines += ["", "All cases:", ""]
    lines += _table(
        ("case", "BuildKit", "ours"),
        ((answer.what, _said(answer.theirs), _equality(answer)) for answer in answers),
    )
    return [*lines, ""]


def _said(text: str | None) -> str:
    return "accepted" if text is None else f"`{text}`"


def _equality(answer: Refusal) -> str:
    return EQUAL if answer.is_equal else "in other words"


def _table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    lines = [columns, ["---"] * len(columns), *rows]
    return [f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |" for line in lines]
