"""The table of mistakes: what users get wrong, the message that they get, and the exit status.

`tests/data/mistakes` has a file for each area. An entry::

    [[mistake]]
    name = "a destination in a missing directory"     # once in the whole table
    needs = ["saved:docker"]                          # see tests/integration/mistake_peers.py
    setup = "mkdir out"                               # optional: lines for sh
    command = "buildkit-exporter export --source saved --output type=oci,dest=no/app.tar"
    status = 2
    stderr = '''
    …
    '''
    stdout = ""                                       # optional, empty if missing
    mask = { PORT = 'port \\d+' }                      # optional: what differs from run to run

    [mistake.files]                                   # optional: files to make
    "Dockerfile" = "FROM scratch"

The command is one or more lines for ``sh``, run in an empty directory by somebody with an empty home. Golden
texts have ``{CWD}`` for that directory, ``{HOME}`` for the home, ``{TIME}`` for how long something took,
``{NAME}`` for a variable that a peer sets and for a match of a mask.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

DIRECTORY = Path(__file__).parent / "data" / "mistakes"

_FIELDS = {"name", "needs", "setup", "command", "status", "stderr", "stdout", "mask", "files"}


@dataclass(frozen=True)
class Mistake:
    """One entry of the table, see above."""

    area: str
    name: str
    command: str
    status: int = -1
    stderr: str = ""
    stdout: str = ""
    setup: str = ""
    needs: tuple[str, ...] = ()
    files: Mapping[str, str] = field(default_factory=dict)
    mask: Mapping[str, str] = field(default_factory=dict)

    @property
    def golden(self) -> str:
        """All that is expected, as one text that a difference can be shown of."""
        return as_text(self.status, self.stderr, self.stdout)


def as_text(status: int, stderr: str, stdout: str) -> str:
    """How a command ended, as one text."""
    parts = [f"exit status {status}\n", stderr]
    if stdout:
        parts += ["--- standard output\n", stdout]
    return "".join(parts)


def read_table() -> tuple[Mistake, ...]:
    """All entries, by area and in the order of their files."""
    return tuple(mistake for path in sorted(DIRECTORY.glob("*.toml")) for mistake in _read(path))


def _read(path: Path) -> Iterator[Mistake]:
    for entry in tomllib.loads(path.read_text())["mistake"]:
        unknown = entry.keys() - _FIELDS
        assert not unknown, f"{path.name}: {entry.get('name')}: unknown {unknown}"
        needs = tuple(entry.pop("needs", ()))
        yield Mistake(area=path.stem, needs=needs, **entry)


def rewrite(area: str, ended: Mapping[str, tuple[int, str, str]]) -> None:
    """Replace the expected outcomes in an area's file by the actual ones.

    Args:
        area: The file's name.
        ended: Status, standard error and standard output by the entry's name.
    """
    path = DIRECTORY / f"{area}.toml"
    head, *entries = re.split(r"^(?=\[\[mistake\]\]$)", path.read_text(), flags=re.MULTILINE)
    for position, text in enumerate(entries):
        [entry] = tomllib.loads(text)["mistake"]
        if entry["name"] in ended:
            entries[position] = _rewritten(text, *ended[entry["name"]])
    path.write_text("".join([head, *entries]))


_VALUE = r"(?:'''.*?'''|\"\"\".*?\"\"\"|\"[^\"\n]*\"|'[^'\n]*'|-?\d+)"


def _rewritten(text: str, status: int, stderr: str, stdout: str) -> str:
    for key in ("status", "stderr", "stdout"):
        text = re.sub(rf"^{key} = {_VALUE}\n", "", text, flags=re.DOTALL | re.MULTILINE)
    golden = f"status = {status}\nstderr = {_quoted(stderr)}\n"
    if stdout:
        golden += f"stdout = {_quoted(stdout)}\n"
    # Behind the command, which every entry has.
    return re.sub(
        rf"^command = {_VALUE}\n",
        lambda found: found[0] + golden,
        text,
        count=1,
        flags=re.DOTALL | re.MULTILINE,
    )


def _quoted(text: str) -> str:
    if not text:
        return '""'
    is_plain = "'''" not in text and all(char == "\n" or char.isprintable() for char in text)
    if is_plain and not text.endswith("'"):
        return f"'''\n{text}'''"
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    escaped = "".join(
        char if char == "\n" or char.isprintable() else f"\\u{ord(char):04x}" for char in escaped
    )
    return f'"""\n{escaped}"""'
