"""Finalize tokens, which identify exports between ``Export`` and ``Finalize``."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field

from exporter.errors import NotFoundError
from exporter.progress.model import StatusSink

logger = logging.getLogger(__name__)

Work = Callable[[StatusSink], Awaitable[Mapping[str, str]]]
"""Publishes the artifact, reports to the sink, and returns response keys. Idempotent."""


@dataclass(slots=True)
class _Pending:
    """An artifact that is waiting to be published, or has been published."""

    type: str
    work: Work
    resources: AsyncExitStack
    issued: float
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    users: int = 0
    timer: asyncio.TimerHandle | None = None
    watch: asyncio.Task[None] | None = None
    result: Mapping[str, str] | None = None


class FinalizeStore:
    """Finalize tokens, and the exports that they identify.

    A token is unguessable, because a caller needs nothing else to finalize the export. It expires `ttl`
    seconds after its last use. The resources of an export (its scratch directory and whatever the finalizer
    needs) are released once it has been published, or when its token expires. The result is kept until the
    token expires, for a caller that missed it.

    Args:
        ttl: Seconds.
    """

    def __init__(self, ttl: float) -> None:
        self._ttl = ttl
        self._pending: dict[str, _Pending] = {}
        self._releasing: set[asyncio.Task[None]] = set()

    def add(self, exporter_type: str, work: Work, resources: AsyncExitStack) -> str:
        """Take ownership of an export's `resources`, and issue a token to publish it."""
        token = secrets.token_urlsafe(32)
        pending = _Pending(exporter_type, work, resources, asyncio.get_running_loop().time())
        self._pending[token] = pending
        self._start_timer(token, pending)
        return token

    def type_of(self, token: str) -> str:
        """The type of the exporter behind `token`; empty if there is no such token."""
        pending = self._pending.get(token)
        return pending.type if pending is not None else ""

    def unpublished(self, younger_than: float) -> int:
        """Count the exports issued less than `younger_than` seconds ago that have not been published."""
        oldest = asyncio.get_running_loop().time() - younger_than
        return sum(p.result is None and p.issued > oldest for p in self._pending.values())

    async def run(self, token: str, sink: StatusSink) -> Mapping[str, str]:
        """Publish the artifact behind `token`, or return the result again if it has been published.

        Calls with the same token are serialized. A call after a failed or cancelled one retries the work.

        Raises:
            NotFoundError: there is no such token, or it has expired.
        """
        pending = self._pending.get(token)
        if pending is None:
            raise NotFoundError(
                "no such finalize token: it has expired, or was issued by another server or before a "
                "restart; export again",
                field="finalize_token",
            )
        pending.users += 1
        self._stop_timer(pending)
        try:
            async with pending.lock:
                if pending.result is None:
                    pending.result = dict(await pending.work(sink))
                    await _release(pending)
                return pending.result
        finally:
            pending.users -= 1
            if pending.users == 0:
                self._start_timer(token, pending)

    async def drop(self, token: str) -> None:
        """Drop a token that never reached its caller, and release its resources."""
        pending = self._pending.pop(token, None)
        if pending is not None:
            self._stop_timer(pending)
            await _stop_watch(pending)
            await _release(pending)

    async def discard(self, token: str) -> None:
        """Drop a token that its caller does not need; a no-op if there is no such token.

        If it is being published, wait for that first. If this is cancelled, the release continues.
        """
        releasing = self._begin_discard(token)
        if releasing is not None:
            await asyncio.shield(releasing)

    def discard_after(self, token: str, ended: Callable[[], Awaitable[None]]) -> None:
        """Drop a token, which must exist, as soon as `ended` returns."""

        async def watch() -> None:
            await ended()
            self._begin_discard(token)

        self._pending[token].watch = asyncio.create_task(watch(), name="end of a finalize token")

    def _begin_discard(self, token: str) -> asyncio.Task[None] | None:
        pending = self._pending.pop(token, None)
        if pending is None:
            return None
        self._stop_timer(pending)

        async def release() -> None:
            async with pending.lock:
                await _release(pending)
            await _stop_watch(pending)

        return self._keep(release())

    def _keep(self, releasing: Coroutine[object, object, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(releasing)
        self._releasing.add(task)
        task.add_done_callback(self._releasing.discard)
        return task

    async def close(self) -> None:
        """Drop all tokens, and release their resources."""
        for token in list(self._pending):
            await self.drop(token)
        if self._releasing:
            await asyncio.wait(self._releasing)

    def _start_timer(self, token: str, pending: _Pending) -> None:
        if token in self._pending:
            pending.timer = asyncio.get_running_loop().call_later(self._ttl, self._expire, token)

    def _stop_timer(self, pending: _Pending) -> None:
        if pending.timer is not None:
            pending.timer.cancel()
            pending.timer = None

    def _expire(self, token: str) -> None:
        pending = self._pending.pop(token)
        if pending.result is None:
            logger.warning("finalize token expired, the artifact was never published: type=%s", pending.type)

        async def release() -> None:
            await _stop_watch(pending)
            await _release(pending)

        self._keep(release())


async def _stop_watch(pending: _Pending) -> None:
    if pending.watch is not None:
        pending.watch.cancel()
        await asyncio.wait([pending.watch])


async def _release(pending: _Pending) -> None:
    """Release the resources. Failures are only logged: they concern the operator, not the caller."""
    try:
        await pending.resources.aclose()
    except Exception:
        logger.exception("cleaning up after an export of type %s", pending.type)
