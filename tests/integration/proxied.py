"""The proxy in a process of its own, and buildctl as its client."""

from __future__ import annotations

import base64
import json
import os
import shutil
import signal
import subprocess
import tarfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.buildkit import require_buildkit
from tests.integration.cli_process import PATIENCE, command, environment, wait_for, wait_for_listener


@dataclass(frozen=True)
class Proxy:
    """A proxy that runs.

    Attributes:
        address: Where it listens.
        home: Its directory: ``log``, ``root``, ``output`` and ``sources``.
        process: Its process.
    """

    address: str
    home: Path
    process: subprocess.Popen[bytes]

    @property
    def log(self) -> str:
        return (self.home / "log").read_text()

    @property
    def output(self) -> Path:
        return self.home / "output"

    def scratch(self) -> list[str]:
        """What exports have left behind in its scratch directories."""
        return [str(path) for path in (self.home / "root" / "scratch").glob("server-*/*")]


@contextmanager
def proxy(
    home: Path, daemon: str, *words: str, dies: bool = False, output: bool = True, files: int | None = None
) -> Iterator[Proxy]:
    """Run a proxy in front of a daemon. It must end by itself after SIGTERM, unless it is to be killed.

    Args:
        home: See `Proxy`.
        daemon: The daemon's address.
        words: More options.
        dies: Whether it is to be killed.
        output: Whether it may write files.
        files: The limit of its open files; None for that of the tests.
    """
    home.mkdir(parents=True, exist_ok=True)
    (home / "output").mkdir(exist_ok=True)
    path = home / "p.sock"
    line = command(
        *("proxy", "--buildkitd", daemon, "--addr", f"unix://{path}", "--root", str(home / "root")),
        *(("--output-dir", str(home / "output")) if output else ()),
        *("--save-source", str(home / "sources")),
        *words,
    )
    if files is not None:
        line = ["sh", "-c", f'ulimit -n {files} && exec "$@"', "sh", *line]
    with (home / "log").open("wb") as log_file:
        process = subprocess.Popen(line, env=environment(home), stderr=log_file)
    try:
        wait_for_listener(process, path)
        # It listens at one address after the other, and says so of each.
        addresses = 1 + words.count("--addr")
        wait_for(lambda: (home / "log").read_text().count("listening on") >= addresses, process)
        yield Proxy(f"unix://{path}", home, process)
        process.send_signal(signal.SIGKILL if dies else signal.SIGTERM)
        status = process.wait(PATIENCE)
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        process.wait()
    log = (home / "log").read_text()
    assert dies or status == 0, log
    # Nothing but what plugins of the tests do wrong: what they raise, and what it is said to be.
    assert log.count("Traceback") == 2 * log.count("\nRuntimeError: cannot "), log


@dataclass
class Build:
    """What buildctl is asked for.

    Attributes:
        context: With its Dockerfile.
        outputs: As buildctl spells them.
        words: More options.
    """

    context: Path
    outputs: list[str]
    words: list[str] = field(default_factory=list)

    def command(self, address: str, metadata: Path, progress: str = "rawjson") -> list[str]:
        return [
            *(require_buildkit("buildctl"), "--addr", address, "build", "--progress", progress),
            *("--frontend", "dockerfile.v0", "--metadata-file", str(metadata)),
            *("--local", f"context={self.context}", "--local", f"dockerfile={self.context}"),
            *(word for output in self.outputs for word in ("--output", output)),
            *self.words,
        ]


@dataclass(frozen=True)
class Built:
    """The outcome of buildctl.

    Attributes:
        status: Its exit status.
        messages: The progress messages that it shows.
        errors: Everything else that it says.
        response: What it writes into ``--metadata-file``.
    """

    status: int
    messages: list[Any]
    errors: str
    response: Mapping[str, Any]

    @property
    def digest(self) -> str:
        assert self.status == 0, self.errors
        return str(self.response["containerimage.digest"])

    def vertexes(self, name: str) -> list[Any]:
        """All messages about the vertices whose names have a prefix."""
        found = [vertex for message in self.messages for vertex in message.get("vertexes", ())]
        return [vertex for vertex in found if vertex["name"].startswith(name)]

    def statuses(self) -> set[str]:
        return {status["id"] for message in self.messages for status in message.get("statuses", ())}

    def warnings(self) -> list[str]:
        found = [warning for message in self.messages for warning in message.get("warnings", ())]
        return [base64.b64decode(warning["short"]).decode() for warning in found]


def build(address: str, wanted: Build) -> Built:
    """Build with buildctl."""
    metadata = wanted.context.with_suffix(".metadata")
    metadata.unlink(missing_ok=True)
    done = subprocess.run(
        wanted.command(address, metadata),
        capture_output=True,
        timeout=PATIENCE,
        check=False,
        env=_environment(),
    )
    return built(done.returncode, done.stderr, metadata)


def built(status: int, output: bytes, metadata: Path) -> Built:
    """Parse the output of buildctl."""
    messages, errors = [], []
    for line in output.decode().splitlines():
        if line.startswith("{"):
            messages.append(json.loads(line))
        else:
            errors.append(line)
    response = json.loads(metadata.read_bytes()) if metadata.exists() else {}
    return Built(status, messages, "\n".join(errors), response)


def _environment() -> dict[str, str]:
    return {"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/")}


def blobs_of(archive: Path) -> dict[str, bytes]:
    """The blobs in an OCI archive, by digest."""
    found = {}
    with tarfile.open(archive) as tar:
        for member in tar:
            parts = member.name.split("/")
            if parts[:2] == ["blobs", "sha256"] and member.isfile():
                content = tar.extractfile(member)
                assert content is not None
                found[f"sha256:{parts[2]}"] = content.read()
    return found


def root_of(archive: Path) -> str:
    """The digest of the image in an OCI archive."""
    with tarfile.open(archive) as tar:
        content = tar.extractfile("index.json")
        assert content is not None
        entries = json.loads(content.read())["manifests"]
    [digest] = {str(entry["digest"]) for entry in entries}
    return digest


def clear(directory: Path) -> None:
    for path in directory.iterdir():
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()
