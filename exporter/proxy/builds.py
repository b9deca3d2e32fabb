"""The builds that are under way, and those who watch them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from exporter.errors import FailedPreconditionError, UnavailableError
from exporter.takeover.build import ProxiedBuild
from exporter.takeover.progress import BuildProgress

_REMEMBERED_BUILDS = 1024

MAX_REF_LENGTH = 256
"""Longest ID of a build that is remembered after the build. BuildKit's own have 25 characters."""


class Builds:
    """Finds builds that have exports of ours, by their ID or by their client's session.

    Whoever asks for a build's progress may come before the build itself.

    Attributes:
        is_closed: Whether new builds, of whatever kind, are refused.
    """

    def __init__(self) -> None:
        self.is_closed = False
        self._by_session: dict[str, ProxiedBuild] = {}
        self._by_ref: dict[str, ProxiedBuild] = {}
        self._progress: dict[str, _SharedProgress] = {}
        self._refused: dict[str, None] = {}

    @contextmanager
    def progress(self, ref: str) -> Iterator[BuildProgress]:
        """What is added to the progress of a build, for one who writes or reads it."""
        shared = self._progress.setdefault(ref, _SharedProgress())
        shared.users += 1
        try:
            yield shared.progress
        finally:
            shared.users -= 1
            if not shared.users:
                del self._progress[ref]

    @contextmanager
    def running(self, build: ProxiedBuild) -> Iterator[None]:
        """Have a build found for as long as the block runs.

        A session has one at a time, for in a session nothing tells which build a call of the daemon or the
        progress of an exporter belongs to. BuildKit's own clients make a session for each build.

        Raises:
            FailedPreconditionError: its session has another one, or another one has its ID.
        """
        other = self._by_session.get(build.session_id)
        if other is not None:
            raise FailedPreconditionError(
                f"session {build.session_id} has another build with exporters of this proxy, "
                f"{other.request.Ref}; give each build a session of its own, or build one after the other"
            )
        if build.request.Ref in self._by_ref:
            raise FailedPreconditionError(f"build {build.request.Ref} is under way already")
        self._by_session[build.session_id] = build
        self._by_ref[build.request.Ref] = build
        try:
            yield
        finally:
            del self._by_session[build.session_id]
            del self._by_ref[build.request.Ref]
            build.progress.close()

    def admit(self) -> None:
        """Let a new build come.

        Raises:
            UnavailableError: none is taken any more.
        """
        if self.is_closed:
            raise UnavailableError("the proxy is shutting down and takes no new builds")

    def refuse(self, ref: str) -> None:
        """Say that a build does not come to the daemon, who would keep its watchers waiting for it."""
        if len(ref) <= MAX_REF_LENGTH:
            self._refused[ref] = None
        if len(self._refused) > _REMEMBERED_BUILDS:
            del self._refused[next(iter(self._refused))]
        if ref in self._progress:
            self._progress[ref].refused.set()

    async def wait_refused(self, ref: str) -> None:
        """Wait until a build that is watched (`progress`) is refused."""
        if ref not in self._refused:
            await self._progress[ref].refused.wait()

    def of_session(self, session_id: str) -> ProxiedBuild | None:
        """The session's build, if it has exports of ours."""
        return self._by_session.get(session_id)

    def find(self, ref: str) -> ProxiedBuild | None:
        """The build with this ID, if it has exports of ours."""
        return self._by_ref.get(ref)


class _SharedProgress:
    def __init__(self) -> None:
        self.progress = BuildProgress()
        self.refused = asyncio.Event()
        self.users = 0
