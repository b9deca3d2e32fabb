"""Build contexts in memory, for tests of the client."""

from __future__ import annotations

from pathlib import Path

from exporter.client import MemoryFile
from tests.peers import require

SHELL = "FROM scratch\nCOPY busybox /bin/sh\n"
SLEEP = 'FROM scratch\nCOPY busybox /bin/sleep\nRUN ["/bin/sleep", "600"]\n'


def files(dockerfile: str, **more: str) -> dict[str, str | bytes | MemoryFile]:
    """A context with a shell."""
    busybox = MemoryFile(Path(require("busybox", "busybox-static")).read_bytes(), 0o755)
    return {"Dockerfile": dockerfile, "busybox": busybox, **more}
