"""A buildkitd for tests."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from exporter.errors import UnavailableError

__all__ = ["running_buildkitd"]

_VARIABLE = "BUILDKITD"
_STARTING_SECONDS = 60.0
_STOPPING_SECONDS = 30.0
_POLL_SECONDS = 0.05
_LOG_BYTES = 2000


@contextmanager
def running_buildkitd(arguments: Sequence[str] = (), *, timeout: float = _STARTING_SECONDS) -> Iterator[str]:
    """Run a buildkitd with an empty cache, in a temporary directory. It needs root and runc.

    It works in a container as well: steps have its network, and layers are plain directories.

    Args:
        arguments: More arguments.
        timeout: The timeout for its start, in seconds.

    Yields:
        Its address.

    Raises:
        UnavailableError: there is no buildkitd, or it does not start; says why.
    """
    program = shutil.which(os.environ.get(_VARIABLE) or "buildkitd")
    if program is None:
        raise UnavailableError(
            f"buildkitd is neither in PATH nor ${_VARIABLE}: get it from github.com/moby/buildkit/releases"
        )
    # The path of a socket has at most 107 bytes, and pytest's directories are long.
    directory = Path(tempfile.mkdtemp(prefix="buildkitd-", dir="/tmp"))
    try:
        address = f"unix://{directory}/s"
        command = [program, "--root", f"{directory}/root", "--addr", address]
        command += ["--oci-worker-snapshotter=native", "--oci-worker-net=host", *arguments]
        with (directory / "log").open("wb") as log:
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        try:
            _wait(process, directory, timeout)
            yield address
        finally:
            _stop(process)
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def _wait(process: subprocess.Popen[bytes], directory: Path, timeout: float) -> None:
    deadline = time.monotonic() + timeout
    while not (directory / "s").exists():
        if process.poll() is None and time.monotonic() < deadline:
            time.sleep(_POLL_SECONDS)
            continue
        log = (directory / "log").read_bytes()[-_LOG_BYTES:].decode("utf-8", "replace").strip()
        problem = (
            "does not start" if process.returncode is None else f"ended with status {process.returncode}"
        )
        raise UnavailableError(f"buildkitd {problem}: {log}")


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(_STOPPING_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
