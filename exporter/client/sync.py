"""BuildKit for programs without an event loop: the same as `exporter.client`, blocking.

::

    from exporter.client.sync import Client

    with Client() as client:
        result = client.build(".", tags="docker.io/me/app")
        print(result.digest)

The work is done by an event loop in a thread that the client owns. `Client.close` ends both.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from typing_extensions import Unpack

from exporter.client.client import CONNECT_SECONDS
from exporter.client.connecting import TLS
from exporter.client.contexts import Context, NamedContext
from exporter.client.credentials import Auth
from exporter.client.events import Event
from exporter.client.facade import Client as AsyncClient
from exporter.client.llb import State
from exporter.client.opened import FileInfo
from exporter.client.opened import OpenedBuild as AsyncOpenedBuild
from exporter.client.opened import ResultTree as AsyncResultTree
from exporter.client.processes import Completed
from exporter.client.request import BuildOptions
from exporter.client.results import AttestationDocument, BuildResult
from exporter.client.running import Build as AsyncBuild
from exporter.client.running import EventHandler
from exporter.content.loop_thread import LoopThread
from exporter.daemon.records import BuildRecord, CacheRecord, HistoryChange, Version, Worker
from exporter.pb.pb import ops_pb2
from exporter.remotes.registry import RegistryOptions

if TYPE_CHECKING:
    from exporter.engine.config import WorkplaceConfig

__all__ = ["Build", "Client", "OpenedBuild", "ResultTree"]


class Client:
    """Like `exporter.client.Client`, blocking. It may be used from several threads.

    Ctrl-C during a build cancels it, and is raised when the daemon has ended it.

    Args:
        address: See `exporter.client.Client`, also for the rest.
        tls: TLS for ``tcp://``.
        auth: Credentials for registries.
        timeout: The timeout for connecting, in seconds.
        workplace: The image store and limits of exporters in this process.
    """

    def __init__(
        self,
        address: str | None = None,
        *,
        tls: TLS | None = None,
        auth: Auth | RegistryOptions | None = None,
        timeout: float = CONNECT_SECONDS,
        workplace: WorkplaceConfig | None = None,
    ) -> None:
        self.asynchronous = AsyncClient(address, tls=tls, auth=auth, timeout=timeout, workplace=workplace)
        """The client that does the work. Use it only in `loop`."""
        self.loop = LoopThread("exporter.client")
        """The event loop."""

    def __enter__(self) -> Self:
        try:
            self.connect()
        except BaseException:
            self.loop.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    @property
    def address(self) -> str:
        """The daemon's address."""
        return self.asynchronous.address

    def connect(self) -> None:
        """See `exporter.client.Client.connect`."""
        self.loop.wait(self.asynchronous.connect())

    def close(self) -> None:
        """Cancel the running builds, disconnect, and end the thread. The client cannot be used again."""
        if not self.loop.is_closed:
            try:
                self.loop.wait(self.asynchronous.close())
            finally:
                self.loop.close()

    def build(
        self, context: Context = ".", *, on_event: EventHandler | None = None, **options: Unpack[BuildOptions]
    ) -> BuildResult:
        """See `exporter.client.Client.build`. `on_event` is called in the client's thread."""
        return self.loop.wait(self.asynchronous.build(context, on_event=on_event, **options))

    def start(
        self, context: Context = ".", *, on_event: EventHandler | None = None, **options: Unpack[BuildOptions]
    ) -> Build:
        """See `exporter.client.Client.start`."""

        async def start() -> AsyncBuild:
            return self.asynchronous.start(context, on_event=on_event, **options)

        return Build(self.loop.wait(start()), self.loop)

    @contextmanager
    def open(
        self, context: Context = ".", *, on_event: EventHandler | None = None, **options: Unpack[BuildOptions]
    ) -> Iterator[OpenedBuild]:
        """See `exporter.client.Client.open`."""
        with self.loop.entered(self.asynchronous.open(context, on_event=on_event, **options)) as build:
            yield OpenedBuild(build, self.loop)

    def solve(
        self,
        state: State | ops_pb2.Definition,
        *,
        directories: Mapping[str, NamedContext] | None = None,
        layouts: Mapping[str, str | Path] | None = None,
        on_event: EventHandler | None = None,
        **options: Unpack[BuildOptions],
    ) -> BuildResult:
        """See `exporter.client.Client.solve`."""
        solving = self.asynchronous.solve(
            state, directories=directories, layouts=layouts, on_event=on_event, **options
        )
        return self.loop.wait(solving)

    @contextmanager
    def open_llb(
        self,
        state: State | ops_pb2.Definition,
        *,
        directories: Mapping[str, NamedContext] | None = None,
        layouts: Mapping[str, str | Path] | None = None,
        on_event: EventHandler | None = None,
        **options: Unpack[BuildOptions],
    ) -> Iterator[OpenedBuild]:
        """See `exporter.client.Client.open_llb`."""
        opening = self.asynchronous.open_llb(
            state, directories=directories, layouts=layouts, on_event=on_event, **options
        )
        with self.loop.entered(opening) as build:
            yield OpenedBuild(build, self.loop)

    def cancel(self, ref: str) -> bool:
        """See `exporter.client.Client.cancel`."""

        async def cancel() -> bool:
            return self.asynchronous.cancel(ref)

        return self.loop.wait(cancel())

    @property
    def running(self) -> tuple[str, ...]:
        """The IDs of this client's running builds."""
        return self.asynchronous.running

    def workers(self, *filters: str) -> list[Worker]:
        """See `exporter.client.Client.workers`."""
        return self.loop.wait(self.asynchronous.workers(*filters))

    def info(self) -> Version:
        """See `exporter.client.Client.info`."""
        return self.loop.wait(self.asynchronous.info())

    def disk_usage(self, *filters: str) -> dict[str, CacheRecord]:
        """See `exporter.client.Client.disk_usage`."""
        return self.loop.wait(self.asynchronous.disk_usage(*filters))

    def prune(
        self,
        *filters: str,
        all: bool = False,
        keep_duration: float = 0.0,
        reserved_space: int = 0,
        max_used_space: int = 0,
        min_free_space: int = 0,
    ) -> list[CacheRecord]:
        """See `exporter.client.Client.prune`."""
        pruning = self.asynchronous.prune(
            *filters,
            all=all,
            keep_duration=keep_duration,
            reserved_space=reserved_space,
            max_used_space=max_used_space,
            min_free_space=min_free_space,
        )
        return self.loop.wait(pruning)

    def history(self, *filters: str, limit: int = 0) -> list[BuildRecord]:
        """See `exporter.client.Client.history`."""
        return self.loop.wait(self.asynchronous.history(*filters, limit=limit))

    def record(self, ref: str) -> BuildRecord:
        """See `exporter.client.Client.record`."""
        return self.loop.wait(self.asynchronous.record(ref))

    def watch_history(
        self, *filters: str, active_only: bool = False
    ) -> Iterator[tuple[HistoryChange, BuildRecord]]:
        """See `exporter.client.Client.watch_history`."""
        return self.loop.iterate(self.asynchronous.watch_history(*filters, active_only=active_only))

    def events(self, ref: str) -> Iterator[Event]:
        """See `exporter.client.Client.events`."""
        return self.loop.iterate(self.asynchronous.events(ref))

    def logs(self, ref: str) -> bytes:
        """See `exporter.client.Client.logs`."""
        return self.loop.wait(self.asynchronous.logs(ref))

    def pin(self, ref: str, *, pinned: bool = True) -> None:
        """See `exporter.client.Client.pin`."""
        self.loop.wait(self.asynchronous.pin(ref, pinned=pinned))

    def delete_record(self, ref: str) -> None:
        """See `exporter.client.Client.delete_record`."""
        self.loop.wait(self.asynchronous.delete_record(ref))

    def attestations(self, ref: str) -> tuple[AttestationDocument, ...]:
        """See `exporter.client.Client.attestations`."""
        return self.loop.wait(self.asynchronous.attestations(ref))


class Build:
    """Like `exporter.client.Build`, blocking: iterate over its events, and ask for its `result`.

    Attributes:
        ref: Its ID.
    """

    def __init__(self, build: AsyncBuild, loop: LoopThread) -> None:
        self.ref = build.ref
        self._build = build
        self._loop = loop

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.cancel()
        self._loop.wait(self._build.wait())

    def __iter__(self) -> Iterator[Event]:
        return self._loop.iterate(self._build.__aiter__())

    @property
    def is_done(self) -> bool:
        """Whether it has ended."""
        return self._build.is_done

    def cancel(self) -> None:
        """See `exporter.client.Build.cancel`."""

        async def cancel() -> None:
            self._build.cancel()

        self._loop.wait(cancel())

    def result(self) -> BuildResult:
        """See `exporter.client.Build.result`."""
        return self._loop.wait(self._build.result())


class ResultTree:
    """Like `exporter.client.ResultTree`, blocking."""

    def __init__(self, tree: AsyncResultTree, loop: LoopThread) -> None:
        self._tree = tree
        self._loop = loop

    def read(self, path: str, *, offset: int = 0, length: int | None = None) -> bytes:
        """See `exporter.client.ResultTree.read`."""
        return self._loop.wait(self._tree.read(path, offset=offset, length=length))

    def list(self, path: str = "/", *, pattern: str = "") -> list[FileInfo]:
        """See `exporter.client.ResultTree.list`."""
        return self._loop.wait(self._tree.list(path, pattern=pattern))

    def stat(self, path: str) -> FileInfo:
        """See `exporter.client.ResultTree.stat`."""
        return self._loop.wait(self._tree.stat(path))

    def exists(self, path: str) -> bool:
        """See `exporter.client.ResultTree.exists`."""
        return self._loop.wait(self._tree.exists(path))

    def run(
        self,
        args: Sequence[str] | str,
        *,
        input: bytes = b"",
        env: Mapping[str, str] | None = None,
        cwd: str = "/",
        user: str = "",
        network: str = "default",
        on_output: Callable[[int, bytes], object] | None = None,
        check: bool = False,
    ) -> Completed:
        """See `exporter.client.ResultTree.run`. `on_output` is called in the client's thread."""
        running = self._tree.run(
            args,
            input=input,
            env=env,
            cwd=cwd,
            user=user,
            network=network,
            on_output=on_output,
            check=check,
        )
        return self._loop.wait(running)


class OpenedBuild(ResultTree):
    """Like `exporter.client.OpenedBuild`, blocking.

    Attributes:
        ref: The build's ID.
        platforms: The file systems by platform; the key is empty if the build has only one.
        metadata: The metadata of the result.
    """

    def __init__(self, build: AsyncOpenedBuild, loop: LoopThread) -> None:
        super().__init__(build, loop)
        self._build = build
        self.ref = build.ref
        self.platforms = {key: ResultTree(tree, loop) for key, tree in build.platforms.items()}
        self.metadata = build.metadata

    @property
    def result(self) -> BuildResult | None:
        """The result of the build, after the block has ended."""
        return self._build.result
