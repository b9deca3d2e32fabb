"""What entries of the table of mistakes may ask for by `needs`: files in their directory, and peers.

A need is a word, or ``word:argument``. To add one, write a function and enter it into `NEEDS` (made for each
entry, in its directory) or `PEERS` (started once, when the first entry asks for it, and used by all).
"""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import pytest

from exporter.exporters.registry import ENTRY_POINT_GROUP
from tests.builds import scenario
from tests.integration import cli_process, proxied
from tests.integration.registry_peer import docker_registry

T = TypeVar("T")

_DEFAULT_BUILD = "run-chain"
_NOBODY = 65534


@dataclass
class Place:
    """Where an entry's command runs.

    Attributes:
        cwd: The directory.
        home: The home.
        variables: Of its environment.
        user: Whose process it is; None for ours.
    """

    cwd: Path
    home: Path
    variables: dict[str, str]
    user: int | None = None
    made: list[Path] = field(default_factory=list)


Need = Callable[[Place, str], AbstractContextManager[Mapping[str, str]]]
"""Prepares an entry's place; gives variables for its environment and its golden texts."""

Peer = Callable[[Path], AbstractContextManager[Mapping[str, str]]]
"""Runs a peer with its files in a directory; gives the same."""


@contextmanager
def _saved(place: Place, build: str) -> Iterator[Mapping[str, str]]:
    """A saved source in ``saved``: the recorded build of that name."""
    shutil.copytree(scenario(build or _DEFAULT_BUILD), place.cwd / "saved")
    yield {}


@contextmanager
def _plugins(place: Place, module: str) -> Iterator[Mapping[str, str]]:
    """An installed distribution ``acme-exporters`` 1.0 with the module ``acme`` (a file of the entry's).

    Its entry points are in the entry's file ``entry_points``: lines such as ``type = acme:Class``.
    """
    site = place.cwd.parent / "site"
    record = site / "acme_exporters-1.0.dist-info"
    record.mkdir(parents=True)
    (record / "METADATA").write_text("Metadata-Version: 2.1\nName: acme-exporters\nVersion: 1.0\n")
    entries = (place.cwd / "entry_points").read_text()
    (record / "entry_points.txt").write_text(f"[{ENTRY_POINT_GROUP}]\n{entries}")
    for path in place.cwd.glob("*.py"):
        shutil.move(path, site / path.name)
    place.variables["PYTHONPATH"] = str(site)
    yield {}


@contextmanager
def _user(place: Place, argument: str) -> Iterator[Mapping[str, str]]:
    """Somebody who is not root: permissions mean something."""
    if os.geteuid() == 0:
        place.user = _NOBODY
        probe = [sys.executable, "-c", "import exporter.cli"]
        if subprocess.run(probe, user=_NOBODY, cwd="/", check=False, capture_output=True).returncode:
            pytest.skip("ordinary users cannot read this environment: install it where they can")
    yield {}


@contextmanager
def _small_disk(place: Place, size: str) -> Iterator[Mapping[str, str]]:
    """A file system in ``disk`` that is soon full, of 256 KiB or ``small-disk:SIZE``."""
    disk = place.cwd / "disk"
    disk.mkdir()
    options = f"size={size or '256k'},mode=0777"
    mount = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(disk)]
    if os.geteuid() != 0 or subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("a small file system takes root, with the right to mount")
    try:
        yield {}
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)


@contextmanager
def _server(directory: Path) -> Iterator[Mapping[str, str]]:
    """A plugin server at ``$SERVER``."""
    with cli_process.server(directory) as address:
        yield {"SERVER": address}


@contextmanager
def _simulator(directory: Path) -> Iterator[Mapping[str, str]]:
    """A daemon that gives recorded builds, at ``$DAEMON``."""
    path = directory / "d.sock"
    line = [sys.executable, "-m", "tests.integration.simulator", str(path)]
    with (directory / "log").open("wb") as log:
        process = subprocess.Popen(line, stdout=log, stderr=log, cwd=Path(__file__).parents[2])
    try:
        cli_process.wait_for_listener(process, path)
        yield {"DAEMON": f"unix://{path}"}
    finally:
        process.terminate()
        process.wait()


@contextmanager
def _proxy(directory: Path) -> Iterator[Mapping[str, str]]:
    """A proxy at ``$PROXY``, in front of the simulator at ``$DAEMON``."""
    (directory / "daemon").mkdir()
    with (
        _simulator(directory / "daemon") as variables,
        proxied.proxy(directory, variables["DAEMON"]) as running,
    ):
        yield {**variables, "PROXY": running.address}


@contextmanager
def _registry(directory: Path) -> Iterator[Mapping[str, str]]:
    """A registry at ``$REGISTRY``, without TLS and passwords."""
    with _in_sync(docker_registry(directory)) as host:
        yield {"REGISTRY": host}


@contextmanager
def _in_sync(manager: AbstractAsyncContextManager[T]) -> Iterator[T]:
    with asyncio.Runner() as runner:
        value = runner.run(manager.__aenter__())
        try:
            yield value
        finally:
            runner.run(manager.__aexit__(None, None, None))


NEEDS: Mapping[str, Need] = {
    "saved": _saved,
    "plugins": _plugins,
    "user": _user,
    "small-disk": _small_disk,
}
PEERS: Mapping[str, Peer] = {
    "server": _server,
    "simulator": _simulator,
    "proxy": _proxy,
    "registry": _registry,
}
