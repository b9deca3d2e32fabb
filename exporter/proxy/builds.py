"""The builds in progress, and their watchers."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from exporter.errors import FailedPreconditionError, UnavailableError
from exporter.takeover.build import ProxiedBuild
from exporter.takeover.progress import BuildProgress

_REMEMBERED_BUILDS = 1024

MAX_REF_LENGTH = 256
"""The maximum length of a build's ID that is remembered after the build. BuildKit's have 25 characters."""


class Builds:
    """Finds builds with exports of ours by their ID or their client's session.

    A request for a build's progress may arrive before the build itself.

    Attributes:
        is_closed: Whether all new builds are rejected.
    """

    def __init__(self) -> None:
        self.is_closed = False
        self._by_session: dict[str, ProxiedBuild] = {}
        self._by_ref: dict[str, ProxiedBuild] = {}
        self._progress: dict[str, _SharedProgress] = {}
        self._refused: dict[str, None] = {}

    @contextmanager
    def progress(self, ref: str) -> Iterator[BuildProgress]:
        """The additions to a build's progress, for a reader or writer."""
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
        """Register a build while the block runs.

        A session has one build at a time, because nothing else identifies the build of a daemon's call or an
        exporter's progress. BuildKit's own clients create a session per build.

        Raises:
            FailedPreconditionError: its session already has a build, or its ID is in use.
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
        """Check that new builds are accepted.

        Raises:
            UnavailableError: the proxy is shutting down.
        """
        if self.is_closed:
            raise UnavailableError("the proxy is shutting down and takes no new builds")

    def refuse(self, ref: str) -> None:
        """Mark a build as rejected: the daemon never sees it and would keep its watchers waiting."""
        if len(ref) <= MAX_REF_LENGTH:
            self._refused[ref] = None
        if len(self._refused) > _REMEMBERED_BUILDS:
            del self._refused[next(iter(self._refused))]
        if ref in self._progress:
            self._progress[ref].refused.set()

    async def wait_refused(self, ref: str) -> None:
        """Wait until a watched build (`progress`) is rejected."""
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
