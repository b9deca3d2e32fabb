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
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TypeVar

import pytest

from exporter.exporters.registry import ENTRY_POINT_GROUP
from tests.builds import scenario
from tests.certificates import make_certificates
from tests.integration import cli_process, proxied
from tests.integration.certificates import make_certificate
from tests.integration.containerd_peer import ContainerdPeer
from tests.integration.ordinary_user import NOBODY, ordinary_environment
from tests.integration.registry_peer import docker_registry, free_port
from tests.peers import require_root

T = TypeVar("T")

_DEFAULT_BUILD = "run-chain"

ORDINARY_ENVIRONMENT = "ordinary-environment"
"""What entries get whose user is not ours."""

HTPASSWD = "jo:$2b$05$uc2/CEa8LQLCV0fh5h7P9.BuXcCZbNGX94eX.U1HOO3Mezqdt8Tzm\n"
"""The password is s3cret."""


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
    """A user other than root, to whom permissions apply."""
    if os.geteuid() == 0:
        place.user = NOBODY
    yield {}


@contextmanager
def _no_daemon(place: Place, argument: str) -> Iterator[Mapping[str, str]]:
    """No daemon at the default address, which is the same for everybody on a machine."""
    if Path("/run/buildkit/buildkitd.sock").exists():
        pytest.skip("there is a buildkitd at the default address")
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
    with in_sync(docker_registry(directory)) as host:
        yield {"REGISTRY": host}


@contextmanager
def _guarded_registry(directory: Path) -> Iterator[Mapping[str, str]]:
    """A registry at ``$GUARDED``: user jo, password s3cret."""
    (directory / "htpasswd").write_text(HTPASSWD)
    auth = {"htpasswd": {"realm": "tests", "path": str(directory / "htpasswd")}}
    with in_sync(docker_registry(directory, auth=auth)) as host:
        yield {"GUARDED": host}


@contextmanager
def _tls_registry(directory: Path) -> Iterator[Mapping[str, str]]:
    """A registry with TLS at ``$TLS_REGISTRY``. Its self-signed certificate is ``$REGISTRY_CERT``."""
    asyncio.run(make_certificate(directory, "server"))
    certificate = directory / "server.crt"
    tls = {"certificate": str(certificate), "key": str(directory / "server.key")}
    certificate.chmod(0o644)
    directory.chmod(0o755)
    with in_sync(docker_registry(directory, tls=tls)) as host:
        yield {"TLS_REGISTRY": host, "REGISTRY_CERT": str(certificate)}


@contextmanager
def _tls_server(directory: Path) -> Iterator[Mapping[str, str]]:
    """A plugin server at ``$TLS_SERVER`` that asks for certificates; there are some in ``$CERTS``."""
    make_certificates(directory)
    port = free_port()
    names = {"--tlscert": "server.pem", "--tlskey": "server.key", "--tlscacert": "ca.pem"}
    flags = [word for flag, name in names.items() for word in (flag, str(directory / name))]
    with cli_process.server(directory, "--addr", f"tcp://127.0.0.1:{port}", *flags):
        yield {"TLS_SERVER": f"tcp://127.0.0.1:{port}", "CERTS": str(directory)}


@contextmanager
def _http(directory: Path) -> Iterator[Mapping[str, str]]:
    """A web server at ``$HTTP``, an address without scheme."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Pages)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield {"HTTP": f"127.0.0.1:{server.server_port}"}
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Pages(BaseHTTPRequestHandler):
    server_version, sys_version = "pages/1.0", ""

    def do_GET(self) -> None:
        self.send_error(404)

    def log_message(self, format: str, *args: object) -> None:
        """Report nothing."""


@contextmanager
def _containerd(directory: Path) -> Iterator[Mapping[str, str]]:
    """A containerd, the path of whose socket is ``$CONTAINERD``."""
    peer = ContainerdPeer(directory)
    require_root("containerd")
    peer.start()
    try:
        yield {"CONTAINERD": peer.socket}
    finally:
        peer.kill()


@contextmanager
def in_sync(manager: AbstractAsyncContextManager[T]) -> Iterator[T]:
    """Enter an asynchronous context without a loop around it."""
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
    "no-daemon": _no_daemon,
    "small-disk": _small_disk,
}
PEERS: Mapping[str, Peer] = {
    "server": _server,
    "simulator": _simulator,
    "proxy": _proxy,
    "registry": _registry,
    "guarded-registry": _guarded_registry,
    "tls-registry": _tls_registry,
    "tls-server": _tls_server,
    "http": _http,
    "containerd": _containerd,
    ORDINARY_ENVIRONMENT: ordinary_environment,
}
