"""BuildKit for programs without an event loop: the same as `exporter.client`, blocking.

::

    from exporter.client.sync import Client

    with Client() as client:
        result = client.build(".", tags="docker.io/me/app")
        print(result.digest)

The work is done by an event loop in a thread that the client owns. `Client.close` ends both.
"""

from __future__ import annotations

from collections.abc import Iterator
from types import TracebackType
from typing import TYPE_CHECKING, Self

from typing_extensions import Unpack

from exporter.client import facade
from exporter.client.client import CONNECT_SECONDS
from exporter.client.connecting import TLS
from exporter.client.contexts import Context
from exporter.client.credentials import Auth
from exporter.client.events import Event
from exporter.client.request import BuildOptions
from exporter.client.results import AttestationDocument, BuildResult
from exporter.client.running import Build as AsyncBuild
from exporter.client.running import EventHandler
from exporter.content.loop_thread import LoopThread
from exporter.daemon.records import BuildRecord, CacheRecord, Version, Worker
from exporter.remotes.registry import RegistryOptions

if TYPE_CHECKING:
    from exporter.engine.config import WorkplaceConfig

__all__ = ["Build", "Client"]


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
        self.asynchronous = facade.Client(address, tls=tls, auth=auth, timeout=timeout, workplace=workplace)
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

    def history(self, *filters: str, limit: int = 0) -> list[BuildRecord]:
        """See `exporter.client.Client.history`."""
        return self.loop.wait(self.asynchronous.history(*filters, limit=limit))

    def record(self, ref: str) -> BuildRecord:
        """See `exporter.client.Client.record`."""
        return self.loop.wait(self.asynchronous.record(ref))

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
