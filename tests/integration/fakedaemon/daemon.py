"""The daemon's program. Commands come as JSON lines, answers and events go out as JSON lines.

It knows nothing of the server but its address and its protocols.
"""

from __future__ import annotations

import asyncio
import base64
import json
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, aclosing
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO, cast

import grpc
import grpc.aio
from google.protobuf.message import Message
from google.rpc import error_details_pb2  # type: ignore[import-untyped]
from grpc_status import rpc_status

from exporter.content.layout import OCILayout
from exporter.content.overlay import MultiProvider
from exporter.content.protocol import BlobInfo, ContentStore, Provider
from exporter.daemon.services.auth import AuthServicer
from exporter.daemon.services.content import ContentServicer
from exporter.daemon.services.refs import RefServicer
from exporter.image import CompressionConfig
from exporter.pb.buildkit.exporter.v1 import exporter_pb2 as pb
from exporter.pb.buildkit.exporter.v1 import exporter_pb2_grpc
from exporter.pb.moby.filesync.v1 import filesync_pb2, filesync_pb2_grpc
from exporter.remotes.messages.results import late_attestations
from exporter.remotes.registry import Credentials, RegistryOptions, StaticCredentials
from exporter.rpc.session.attach import Attachable, attach
from exporter.rpc.status import StatusInterceptor
from exporter.source.saved.load import SavedSource
from exporter.source.types import Attestation, LayerChain, Ref, Remote, Source

JSON = dict[str, Any]
OPTIONS = (("grpc.max_receive_message_length", -1), ("grpc.max_metadata_size", 1 << 20))


class Gates:
    """Places where the daemon waits for the test."""

    def __init__(self, emit: Any) -> None:
        self._emit = emit
        self._closed: dict[str, asyncio.Event] = {}

    def close(self, name: str) -> None:
        self._closed[name] = asyncio.Event()

    def open(self, name: str) -> None:
        self._closed.pop(name).set()

    async def passing(self, name: str) -> None:
        gate = self._closed.get(name)
        if gate is not None:
            self._emit({"event": "reached", "gate": name})
            await gate.wait()


class GatedRef:
    """A ref whose answers wait at the gates ``remote``, ``chain`` and ``read``."""

    def __init__(self, ref: Ref, gates: Gates, blobs: dict[str, Path], *, drop_layer: bool) -> None:
        self._ref = ref
        self._gates = gates
        self._blobs = blobs
        self._drop_layer = drop_layer

    @property
    def id(self) -> str:
        return self._ref.id

    async def remote(self, compression: CompressionConfig | None = None) -> Remote:
        await self._gates.passing("remote")
        remote = await self._ref.remote(compression)
        Daemon.emit({"event": "layers", "ref": self.id})
        return Remote(remote.descriptors, GatedProvider(remote.provider, self._gates, self._blobs))

    async def layer_chain(self) -> LayerChain:
        await self._gates.passing("chain")
        chain = await self._ref.layer_chain()
        return chain[1:] if self._drop_layer else chain


class GatedProvider:
    """Blobs of a provider, some of them replaced. Reads wait at ``read``, later at ``read-on``."""

    def __init__(self, provider: Provider, gates: Gates, replaced: dict[str, Path]) -> None:
        self._provider = provider
        self._gates = gates
        self._replaced = replaced

    async def info(self, digest: str) -> BlobInfo:
        if digest in self._replaced:
            return BlobInfo(digest, self._replaced[digest].stat().st_size)
        return await self._provider.info(digest)

    async def read(self, digest: str, *, offset: int = 0, length: int | None = None) -> AsyncIterator[bytes]:
        await self._gates.passing("read")
        if digest in self._replaced:
            data = self._replaced[digest].read_bytes()[offset:]
            data = data if length is None else data[:length]
            middle = len(data) // 2
            yield data[:middle]
            await self._gates.passing("read-on")
            yield data[middle:]
            return
        async with aclosing(self._provider.read(digest, offset=offset, length=length)) as pieces:  # type: ignore[type-var]
            async for piece in pieces:
                yield piece
                await self._gates.passing("read-on")


class FileSend(filesync_pb2_grpc.FileSendServicer):
    """Takes output files.

    Args:
        places: By exporter ID: a path, or ``!CODE`` for a status to fail with after the first message. A file
            without a place is not wanted.
    """

    def __init__(self, places: dict[str, str], gates: Gates, emit: Any) -> None:
        self._places = places
        self._gates = gates
        self._emit = emit

    async def DiffCopy(  # type: ignore[override]  # noqa: N802 - a coroutine that reads
        self, request_iterator: Any, context: Any
    ) -> None:
        headers = {key: value for key, value in context.invocation_metadata() if isinstance(value, str)}
        self._emit({"event": "file", "headers": headers})
        place = self._places.get(headers.get("buildkit-attachable-exporter-id", ""), "")
        if not place:
            await context.abort(grpc.StatusCode.ALREADY_EXISTS, "target already exists")
        if place.startswith("!"):
            await context.read()
            await context.abort(grpc.StatusCode[place[1:]], "the client's trouble")
        with PartialFile(place) as file:
            while isinstance(message := await context.read(), filesync_pb2.BytesMessage):
                file.write(message.data)
                await self._gates.passing("file")
            # A call that was cancelled looks as if it had been ended; only answering shows the difference.
            await context.send_initial_metadata(())


class PartialFile:
    """A file that gets its name when it is complete."""

    def __init__(self, place: str) -> None:
        self._place = Path(place)
        self._partial = Path(f"{place}.partial")

    def __enter__(self) -> BinaryIO:
        self._file = self._partial.open("wb")
        return self._file

    def __exit__(self, kind: object, *_: object) -> None:
        self._file.close()
        if kind is None:
            self._partial.rename(self._place)


class Daemon:
    """Carries out the commands."""

    def __init__(self) -> None:
        self._gates = Gates(self.emit)
        self._sessions: dict[str, AsyncExitStack] = {}
        self._calls: dict[str, Any] = {}
        self._channel: grpc.aio.Channel | None = None
        self._may_read: dict[str, asyncio.Event] = {}

    @staticmethod
    def emit(line: JSON) -> None:
        sys.stdout.write(json.dumps(line) + "\n")
        sys.stdout.flush()

    async def connect(self, target: str, ca: str = "", cert: str = "", key: str = "") -> None:
        if ca:
            self._channel = grpc.aio.secure_channel(target, _credentials(ca, cert, key), OPTIONS)
        else:
            self._channel = grpc.aio.insecure_channel(target, OPTIONS)

    async def attach(
        self,
        session: str,
        saved: str = "",
        replaced: dict[str, str] | None = None,
        files: dict[str, str] | None = None,
        layout: str = "",
        drop_layer: bool = False,
        all_blobs: bool = False,
        logins: dict[str, tuple[str, str]] | None = None,
    ) -> list[str]:
        """Attach a session that serves what the arguments name; `logins`: user and password by registry."""
        services: list[Attachable] = []
        provider: Provider | None = None
        if saved:
            places = {digest: Path(path) for digest, path in (replaced or {}).items()}
            refs = await self._refs(saved, places, drop_layer=drop_layer)
            attestations = late_attestations(without_content((await SavedSource.open(saved)).source))
            servicer, provider = await _ref_services(refs, attestations, all_blobs=all_blobs)
            services.append(servicer.register)
        if layout or provider is not None:
            stores: dict[str, Provider | ContentStore] = {} if provider is None else {"refs": provider}
            if layout:
                stores["export"] = await OCILayout.open(layout)
            services.append(ContentServicer(stores=stores).register)
        if files is not None:
            file_send = FileSend(files, self._gates, self.emit)
            services.append(
                lambda server: filesync_pb2_grpc.add_FileSendServicer_to_server(file_send, server)
            )
        if logins is not None:
            known = {host: Credentials(*login) for host, login in logins.items()}
            services.append(AuthServicer(RegistryOptions(credentials=StaticCredentials(known))).register)
        stack = AsyncExitStack()
        assert self._channel is not None
        attachment = await stack.enter_async_context(attach(self._channel, services, session_id=session))
        self._sessions[session] = stack
        return list(attachment.methods)

    async def serve(self, address: str, saved: str) -> None:
        """Serve refs and blobs at an address, with no session."""
        servicer, provider = await _ref_services(await self._refs(saved, {}), {}, all_blobs=True)
        server = grpc.aio.server(interceptors=[StatusInterceptor()])
        servicer.register(server)
        ContentServicer(stores={"refs": provider}).register(server)
        server.add_insecure_port(address)
        await server.start()
        self._server = server

    async def detach(self, session: str) -> None:
        await self._sessions.pop(session).aclose()

    async def close_gate(self, gate: str) -> None:
        self._gates.close(gate)

    async def open_gate(self, gate: str) -> None:
        self._gates.open(gate)

    async def export(self, key: str, request: str, timeout: float | None = None, hold: bool = False) -> JSON:
        """Export; with `hold`, nothing is read before the command `read`."""
        message = pb.ExportRequest.FromString(base64.b64decode(request))
        return await self._follow(key, self._stub.Export(message, timeout=timeout), hold=hold)

    async def finalize(self, key: str, token: str, timeout: float | None = None) -> JSON:
        message = pb.FinalizeRequest(finalize_token=token)
        return await self._follow(key, self._stub.Finalize(message, timeout=timeout))

    async def release(self, token: str) -> JSON:
        async def call() -> AsyncIterator[Message]:
            yield await self._stub.Release(pb.ReleaseRequest(finalize_token=token))

        return await _outcome(call())

    async def resolve(self, type: str, attrs: dict[str, str]) -> JSON:
        async def call() -> AsyncIterator[Message]:
            yield await self._stub.Resolve(pb.ResolveRequest(type=type, attrs=attrs))

        return await _outcome(call())

    async def read(self, key: str) -> None:
        self._may_read[key].set()

    async def cancel(self, key: str) -> None:
        self._calls[key].cancel()

    async def _refs(self, saved: str, places: dict[str, Path], *, drop_layer: bool = False) -> list[GatedRef]:
        source = (await SavedSource.open(saved)).source
        refs = [source.ref, *(source.refs or {}).values()]
        return [GatedRef(ref, self._gates, places, drop_layer=drop_layer) for ref in refs if ref is not None]

    @property
    def _stub(self) -> exporter_pb2_grpc.ExporterServiceStub:
        assert self._channel is not None
        return exporter_pb2_grpc.ExporterServiceStub(self._channel)

    async def _follow(self, key: str, call: Any, *, hold: bool = False) -> JSON:
        self._calls[key] = call
        if hold:
            self._may_read[key] = asyncio.Event()
            await self._may_read[key].wait()
        return await _outcome(call)


def without_content(source: Source) -> Source:
    """A result whose attestations have content that has to be asked for. It tells when that happens."""

    def late(attestation: Attestation) -> Attestation:
        content = attestation.content
        if content is None:
            return attestation

        async def load() -> bytes:
            Daemon.emit({"event": "attestation", "path": attestation.path})
            return content

        return replace(attestation, content=None, load_content=load)

    attestations = {key: tuple(map(late, items)) for key, items in source.attestations.items()}
    return replace(source, attestations=attestations)


async def _ref_services(
    refs: list[GatedRef], attestations: Mapping[str, Attestation], *, all_blobs: bool
) -> tuple[RefServicer, Provider]:
    """Services for refs; with `all_blobs`, blobs are served that nobody has asked for by ref."""
    servicer = RefServicer({ref.id: ref for ref in refs}, attestations)
    if not all_blobs:
        return servicer, servicer.provider
    provider = MultiProvider()
    for ref in refs:
        remote = await ref.remote()
        for descriptor in remote.descriptors:
            provider.add(descriptor.digest, remote.provider)
    return servicer, provider


def _credentials(ca: str, cert: str, key: str) -> grpc.ChannelCredentials:
    certificate = Path(cert).read_bytes() if cert else None
    private_key = Path(key).read_bytes() if key else None
    return grpc.ssl_channel_credentials(Path(ca).read_bytes(), private_key, certificate)


async def _outcome(messages: AsyncIterator[Message]) -> JSON:
    events: list[str] = []
    outcome: JSON = {"code": "OK", "message": "", "field": None, "reason": None}
    try:
        async for message in messages:
            events.append(base64.b64encode(message.SerializeToString()).decode())  # noqa: PERF401
    except asyncio.CancelledError:
        outcome["code"] = "CANCELLED"
    except grpc.aio.AioRpcError as error:
        outcome.update(code=error.code().name, message=error.details(), **_details(error))
    return {**outcome, "events": events}


def _details(error: grpc.aio.AioRpcError) -> JSON:
    found: JSON = {}
    status = rpc_status.from_call(cast(grpc.Call, error))
    for detail in status.details if status is not None else ():
        request, info = error_details_pb2.BadRequest(), error_details_pb2.ErrorInfo()
        if detail.Unpack(request):
            found["field"] = request.field_violations[0].field
        elif detail.Unpack(info):
            found["reason"] = info.reason
    return found


async def main() -> None:
    daemon = Daemon()
    reader = asyncio.StreamReader(limit=1 << 28)
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), sys.stdin
    )
    running: set[asyncio.Task[None]] = set()

    async def run(number: int, name: str, arguments: JSON) -> None:
        try:
            answer = {"id": number, "result": await getattr(daemon, name)(**arguments)}
        except Exception as error:
            answer = {"id": number, "error": f"{type(error).__name__}: {error}"}
        daemon.emit(answer)

    while line := await reader.readline():
        command = json.loads(line)
        task = asyncio.create_task(run(command.pop("id"), command.pop("do"), command))
        running.add(task)
        task.add_done_callback(running.discard)


if __name__ == "__main__":
    asyncio.run(main())
