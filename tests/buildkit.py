"""BuildKit's own programs, for tests that hold us against them."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import pytest

_STARTING_SECONDS = 60
_STOPPING_SECONDS = 30


def require_buildkit(program: str) -> str:
    """Find ``buildctl``, ``buildkitd`` or ``docker-buildx``, or skip the test. Debian 12 has none of them.

    ``$BUILDCTL``, ``$BUILDKITD`` and ``$DOCKER_BUILDX`` name those that are not in PATH.
    """
    variable = program.upper().replace("-", "_")
    path = shutil.which(os.environ.get(variable) or program)
    if path is None:
        project = "docker/buildx" if program == "docker-buildx" else "moby/buildkit"
        pytest.skip(
            f"{program} is neither in PATH nor ${variable}: get it from github.com/{project}/releases"
        )
    return path


@contextmanager
def running_buildkitd(directory: Path) -> Iterator[str]:
    """A daemon of our own; skips the test where none can run. It says its version.

    Args:
        directory: For its state. Its socket has to fit into 107 bytes.

    Yields:
        Its address, as gRPC spells it.
    """
    with mortal_buildkitd(directory) as (address, _):
        yield address


@contextmanager
def mortal_buildkitd(directory: Path, *arguments: str) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """Like `buildkitd`, but also gives the process, for tests that kill it."""
    program = require_buildkit("buildkitd")
    if os.geteuid() != 0:
        pytest.skip("buildkitd needs root")
    socket = directory / "b.sock"
    command = [program, "--root", str(directory / "root"), "--addr", f"unix://{socket}"]
    # What works in a container, too: no overlay on an overlay, no network of its own.
    command += ["--oci-worker-snapshotter=native", "--oci-worker-net=host", *arguments]
    subprocess.run([program, "--version"], check=False)
    with (directory / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        deadline = time.monotonic() + _STARTING_SECONDS
        while not socket.exists():
            if process.poll() is not None or time.monotonic() > deadline:
                pytest.skip("buildkitd cannot run here: " + (directory / "log").read_text()[-500:])
            time.sleep(0.1)
        yield f"unix:{socket}", process
    finally:
        process.terminate()
        try:
            process.wait(_STOPPING_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@contextmanager
def own_buildkitd() -> Iterator[str]:
    """The same in a directory of its own; gives its address as ``unix://PATH``."""
    directory = Path(tempfile.mkdtemp(prefix="bke-", dir="/tmp"))  # the path of a socket has to be short
    try:
        with running_buildkitd(directory) as target:
            yield f"unix://{target.removeprefix('unix:')}"
    finally:
        shutil.rmtree(directory, ignore_errors=True)


@asynccontextmanager
async def buildkitd(directory: Path) -> AsyncIterator[str]:
    """The same, for one test."""
    with running_buildkitd(directory) as address:
        yield address
