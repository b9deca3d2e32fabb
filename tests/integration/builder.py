"""A buildkitd, used by our client and by ``docker buildx``."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.buildkit import own_buildkitd, require_buildkit


@dataclass(frozen=True)
class Builder:
    """The same daemon by two ways: its address for us, and the name of a builder for buildx."""

    address: str
    home: Path

    def buildx(self, *words: str, stdin: bytes | None = None) -> subprocess.CompletedProcess[bytes]:
        program = require_buildkit("docker-buildx")
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(self.home),
            "BUILDX_NO_DEFAULT_ATTESTATIONS": "1",
        }
        return subprocess.run(
            [program, *words], env=environment, input=stdin, capture_output=True, check=False
        )


@contextmanager
def own_builder(home: Path) -> Iterator[Builder]:
    """Run a daemon, and create a buildx builder for it."""
    with own_buildkitd() as address:
        builder = Builder(address, home)
        done = builder.buildx("create", "--name", "ours", "--driver", "remote", "--use", address)
        assert done.returncode == 0, done.stderr
        yield builder
