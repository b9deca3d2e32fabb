"""Serving local directories to a daemon (``moby.filesync.v1.FileSync``): build contexts, Dockerfiles.

The daemon selects files of a directory, gets their attributes, and requests the contents that it does not
have from an earlier build.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from urllib.parse import unquote_plus

import grpc.aio

from exporter.content.threads import run_in_thread
from exporter.daemon.fsutil.local_files import LocalWalk, Selection
from exporter.daemon.fsutil.send import send_directory
from exporter.errors import NotFoundError
from exporter.image import ImageError
from exporter.image.go.text import parse_bool
from exporter.rpc.session.handling import Context, HandlerStream, add_stream_method

_SERVICE = "moby.filesync.v1.FileSync"


class FileSyncServicer:
    """Serves directories. Needs a server with `exporter.rpc.status.StatusInterceptor`.

    Args:
        directories: The directories by their names in the build (``context``, ``dockerfile``).
    """

    def __init__(self, directories: Mapping[str, Path]) -> None:
        self._directories = dict(directories)

    def register(self, server: grpc.aio.Server) -> None:
        """Add the service to a server, without ``TarStream``, which current daemons do not use."""
        add_stream_method(server, _SERVICE, "DiffCopy", self._diff_copy)

    async def _diff_copy(self, request_iterator: object, context: Context) -> None:
        """Send a directory's files. Messages are raw bytes."""
        options = _options(context)
        name = next(iter(options.get("dir-name", ())), "")
        if name not in self._directories:
            raise NotFoundError(f"no access allowed to dir {name!r}")
        selection = Selection(
            include=options.get("include-patterns", ()),
            exclude=options.get("exclude-patterns", ()),
            follow=options.get("followpaths", ()),
        )
        root = await run_in_thread(self._directories[name].resolve)
        async with HandlerStream(context) as stream:
            await send_directory(stream, LocalWalk(root, selection).entries(), _ignore)


def _ignore(size: int) -> None:
    """Ignore the number of bytes sent."""


def _options(context: Context) -> dict[str, list[str]]:
    """The request's metadata, with percent-encoded values decoded."""
    values: dict[str, list[str]] = {}
    for key, value in context.invocation_metadata() or ():
        if isinstance(value, str):
            values.setdefault(key, []).append(value)
    return {
        key: [unquote_plus(value) for value in group] if _is_encoded(values, key) else group
        for key, group in values.items()
    }


def _is_encoded(values: Mapping[str, list[str]], key: str) -> bool:
    try:
        return any(parse_bool(value) for value in values.get(f"{key}-encoded", ())[:1])
    except ImageError:
        return False
