"""Connecting to a running server, and explaining why that failed."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import grpc
import grpc.aio

from exporter.cli.commands.shared import ClientArgs
from exporter.cli.descriptions import ExporterDescription
from exporter.cli.failures import UsageError
from exporter.content.threads import run_in_thread
from exporter.daemon.identity import Kind, identify
from exporter.errors import ExporterError, InvalidArgumentError, UnavailableError
from exporter.exporters.base import ArtifactKind, Attribute
from exporter.pb.buildkit.exporter.v1 import exporter_pb2, exporter_pb2_grpc
from exporter.remotes.http.tls import client_context
from exporter.rpc.address import Address, UnixAddress, parse_address
from exporter.rpc.diagnosis import Endpoint, why_unreachable
from exporter.rpc.http2.sockets import Dial
from exporter.rpc.limits import PEER_OPTIONS
from exporter.rpc.status import rpc_errors
from exporter.rpc.tls import load_certificate


@dataclass(frozen=True, slots=True)
class ServerAccess:
    """How to reach a server.

    Attributes:
        address: The address it listens at.
        timeout: The timeout for connecting, in seconds.
        ca: CA certificates to verify it with; those of the system if None.
        cert: The client certificate.
        key: Its private key.
        name: The name that the server's certificate must have; the host of the address if None.
        prefix: The prefix of the flags for TLS, for messages.
    """

    address: Address
    timeout: float
    ca: Path | None = None
    cert: Path | None = None
    key: Path | None = None
    name: str | None = None
    prefix: str = "--tls"

    @classmethod
    def of(cls, options: ClientArgs) -> ServerAccess:
        """Read the options of a command that talks to a server.

        Raises:
            UsageError: an option is invalid, or two contradict each other.
        """
        try:
            address = parse_address(options.addr or "", field="addr")
        except InvalidArgumentError as error:
            raise UsageError(f"--addr: {error.message}") from error
        if (options.tlscert is None) != (options.tlskey is None):
            raise UsageError("--tlscert and --tlskey belong together: give both, or neither")
        access = cls(
            address=address,
            timeout=options.timeout,
            ca=options.tlscacert,
            cert=options.tlscert,
            key=options.tlskey,
            name=options.tlsservername,
        )
        if access.uses_tls and isinstance(address, UnixAddress):
            raise UsageError("TLS is for servers on TCP, and --addr names a Unix socket: leave --tls* out")
        return access

    def ssl_context(self) -> ssl.SSLContext:
        """Create a TLS context, for connections that do not use gRPC's own TLS. Blocks.

        Raises:
            UsageError: a file cannot be read, or has the wrong format.
        """
        for option, path in (("cacert", self.ca), ("cert", self.cert), ("key", self.key)):
            _check_readable(f"{self.prefix}{option}", path)
        try:
            context = client_context(self.ca)
        except OSError as error:
            raise UsageError(f"{self.prefix}cacert: {self.ca} has no certificates in PEM") from error
        context.set_alpn_protocols(["h2"])
        if self.cert is not None and self.key is not None:
            try:
                load_certificate(context, self.cert, self.key)
            except InvalidArgumentError as error:
                raise UsageError(f"{self.prefix}cert: {error.message}") from error
        return context

    async def endpoint(self) -> Endpoint:
        """Describe the server for `why_unreachable`.

        Raises:
            UsageError: see `ssl_context`.
        """
        context = await run_in_thread(self.ssl_context) if self.uses_tls else None
        return Endpoint(
            self.address,
            tls=context,
            server_name=self.name,
            shows_certificate=self.cert is not None,
            options=self.prefix,
        )

    async def dialler(self) -> Dial:
        """Return a function that opens connections without gRPC.

        Raises:
            UsageError: see `ssl_context`.
        """
        loop = asyncio.get_running_loop()
        address = self.address
        if isinstance(address, UnixAddress):
            return partial(loop.create_unix_connection, path=address.path)
        connect = partial(loop.create_connection, host=address.host, port=address.port)
        if not self.uses_tls:
            return connect
        context = await run_in_thread(self.ssl_context)
        return partial(connect, ssl=context, server_hostname=self.name or address.host)

    @property
    def uses_tls(self) -> bool:
        """Whether any TLS option was given."""
        return any(value is not None for value in (self.ca, self.cert, self.name))

    def credentials(self) -> grpc.ChannelCredentials:
        """Read the certificates for gRPC. Blocks.

        Raises:
            UsageError: see `ssl_context`.
        """
        self.ssl_context()  # gRPC does not say what is wrong with a file
        ca, key, cert = (
            path.read_bytes() if path is not None else None for path in (self.ca, self.key, self.cert)
        )
        return grpc.ssl_channel_credentials(ca, key, cert)


@asynccontextmanager
async def connect(access: ServerAccess) -> AsyncIterator[grpc.aio.Channel]:
    """Connect to a server.

    Raises:
        UsageError: the certificates are invalid.
    """
    options: list[tuple[str, int | str]] = list(PEER_OPTIONS)
    if not access.uses_tls:
        channel = grpc.aio.insecure_channel(access.address.target, options)
    else:
        credentials = await run_in_thread(access.credentials)
        if access.name is not None:
            options.append(("grpc.ssl_target_name_override", access.name))
        channel = grpc.aio.secure_channel(access.address.target, credentials, options)
    async with channel:
        yield channel


@asynccontextmanager
async def explained(channel: grpc.aio.Channel, access: ServerAccess, wanted: Kind) -> AsyncIterator[None]:
    """Wrap the first calls to a server: if they fail, find out why, and what the peer is.

    Args:
        channel: The channel to the server.
        access: How the channel was opened.
        wanted: The kind of server that is expected.

    Raises:
        UnavailableError: it cannot be reached, or is of a different kind.
    """
    try:
        yield
    except ExporterError as error:
        reason = await why_unreachable(await access.endpoint())
        if reason is None:
            reason = await _what_else(channel, access, wanted) or error.message
        raise UnavailableError(f"cannot reach {wanted.value} at {access.address}: {reason}") from error


async def _what_else(channel: grpc.aio.Channel, access: ServerAccess, wanted: Kind) -> str | None:
    try:
        found = await identify(channel, access.timeout)
    except grpc.aio.AioRpcError:
        return None
    if found.kind is wanted:
        return None
    hint = _INSTEAD.get((wanted, found.kind), "give another address")
    return f"what listens there is {found}; {hint}"


_INSTEAD = {
    (Kind.PLUGIN_SERVER, Kind.BUILDKIT): "`buildkit-exporter serve` runs a plugin server, and "
    "`buildkit-exporter build` builds with a daemon",
    (
        Kind.BUILDKIT,
        Kind.PLUGIN_SERVER,
    ): "it exports what daemons have built, and builds nothing itself: give the address of a buildkitd",
}
"""Advice, by the kind of server that was expected and the kind that was found."""


def _check_readable(option: str, path: Path | None) -> None:
    if path is None:
        return
    try:
        path.open("rb").close()
    except OSError as error:
        raise UsageError(f"{option}: cannot read {path}: {error.strerror}") from error


async def list_exporters(channel: grpc.aio.Channel, access: ServerAccess) -> list[ExporterDescription]:
    """Ask a server for its exporter types. This is the first call, so it also detects unreachable servers.

    Raises:
        UnavailableError: the server cannot be reached.
        ExporterError: the server answers with an error.
    """
    async with explained(channel, access, Kind.PLUGIN_SERVER):
        with rpc_errors():
            response = await exporter_pb2_grpc.ExporterServiceStub(channel).ListExporters(
                exporter_pb2.ListExportersRequest(), timeout=access.timeout
            )
    return [_description(info) for info in response.exporters]


_ARTIFACTS = {
    exporter_pb2.ARTIFACT_KIND_IMAGE: ArtifactKind.IMAGE,
    exporter_pb2.ARTIFACT_KIND_ARCHIVE: ArtifactKind.ARCHIVE,
    exporter_pb2.ARTIFACT_KIND_FILES: ArtifactKind.FILES,
}


def _description(info: exporter_pb2.ExporterInfo) -> ExporterDescription:
    return ExporterDescription(
        type=info.type,
        title=info.title,
        artifact=_ARTIFACTS.get(info.artifact_kind, ArtifactKind.NONE),
        attributes=[Attribute(item.name, item.kind, item.default, item.help) for item in info.attributes],
    )
