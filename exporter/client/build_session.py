"""The services of a build's session, and publishing what it has received."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from exporter.client.options import CachePlace, Export, SolveOptions
from exporter.content.layout import OCILayout
from exporter.content.manifest import decode_descriptor
from exporter.content.protocol import ContentStore, Provider
from exporter.content.threads import run_in_thread
from exporter.daemon.services.auth import AuthServicer
from exporter.daemon.services.content import ContentServicer
from exporter.daemon.services.filesync import FileSyncServicer
from exporter.daemon.services.receive import FileHandler, FileReceiver, FileSendServicer, LayoutReceiver
from exporter.daemon.services.receive_directory import DirectoryReceiver, ReceivedDirectory
from exporter.daemon.services.secrets import SecretsServicer
from exporter.daemon.services.ssh import SSHServicer
from exporter.daemon.ssh.agents import agents_by_id
from exporter.errors import FailedPreconditionError, InvalidArgumentError, NotFoundError
from exporter.exporters.destinations import Output
from exporter.exporters.response import image_names, image_root
from exporter.image import Descriptor, ImageError
from exporter.image.keys import CACHE_MANIFEST
from exporter.remotes.session.content import EXPORT_STORE
from exporter.rpc.session.attach import Attachable

_LATEST = "latest"


@dataclass(slots=True)
class BuildSession:
    """The services of one build.

    Attributes:
        attachables: The session's services.
        cache_imports: The cache imports; local ones have the digest that the daemon needs.
        warnings: Warnings about unusable options.
    """

    attachables: list[Attachable] = field(default_factory=list)
    cache_imports: list[CachePlace] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    _files: FileReceiver = field(default_factory=lambda: FileReceiver({}))
    _layouts: dict[int, LayoutReceiver] = field(default_factory=dict)
    _stores: dict[str, Provider | ContentStore] = field(default_factory=dict)
    _caches: list[tuple[OCILayout, str]] = field(default_factory=list)

    @classmethod
    @asynccontextmanager
    async def open(
        cls,
        options: SolveOptions,
        handlers: Mapping[int, FileHandler] | None = None,
        daemon_index: Callable[[int], int] = int,
    ) -> AsyncIterator[BuildSession]:
        """Prepare the services. At the end, unpublished results are dropped.

        Args:
            options: The build.
            handlers: Handlers for outputs other than `Export.file`.
            daemon_index: Maps the index of an output to the daemon's index.

        Raises:
            ExporterError: an option is invalid, or a directory is not a layout.
        """
        services = cls()
        async with AsyncExitStack() as stack:
            services._serve_stores(options)
            await services._serve_caches(options)
            services._receive(options, handlers or {}, daemon_index)
            stack.push_async_callback(services._files.close)
            if services._stores:
                services.attachables.append(ContentServicer(stores=services._stores).register)
            if options.directories:
                services.attachables.append(FileSyncServicer(options.directories).register)
            if options.secrets:
                services.attachables.append(SecretsServicer(options.secrets).register)
            if options.ssh:
                agents = await run_in_thread(agents_by_id, options.ssh, os.environ)
                services.attachables.append(SSHServicer(agents).register)
            services.attachables.append(AuthServicer(options.registries).register)
            services.attachables.extend(options.services)
            yield services

    async def publish(self, response: Mapping[str, str]) -> None:
        """Move files and images to their destinations after a successful build.

        Raises:
            FailedPreconditionError: an image is missing or incomplete.
        """
        for index in self._files.handlers:
            await self._files.commit(index)
        if self._layouts:
            root = image_root(response)
            for layout in self._layouts.values():
                await layout.publish(root, image_names(response))
        if self._caches and CACHE_MANIFEST in response:
            root = _cache_root(response[CACHE_MANIFEST])
            for cache, tag in self._caches:
                await cache.publish(root, tags=(tag,))

    def _serve_stores(self, options: SolveOptions) -> None:
        self._stores.update({f"oci:{name}": store for name, store in options.stores.items()})

    async def _serve_caches(self, options: SolveOptions) -> None:
        for place in options.cache_exports:
            if place.type == "local":
                directory = _need(place, "dest", "local cache exporter")
                layout = await OCILayout.open(directory)
                self._stores[f"local:{directory}"] = layout
                self._caches.append((layout, place.attrs.get("tag", _LATEST)))
            elif place.type == "registry":
                _need(place, "ref", "registry cache exporter")
        for place in options.cache_imports:
            if place.type == "local":
                await self._serve_local_cache(place)
                continue
            if place.type == "registry":
                _need(place, "ref", "registry cache importer")
            self.cache_imports.append(place)

    async def _serve_local_cache(self, place: CachePlace) -> None:
        """Serve a cache directory. A missing one is not an error, because the first build has none."""
        directory = _need(place, "src", "local cache importer")
        digest = place.attrs.get("digest", "")
        try:
            layout = await OCILayout.open(directory, create=False)
            if not digest:
                digest = (await layout.resolve(place.attrs.get("tag", _LATEST))).digest
            await layout.info(digest)
        except (NotFoundError, FailedPreconditionError) as error:
            self.warnings.append(f"local cache import at {directory} skipped: {error}")
            return
        self._stores[f"local:{directory}"] = layout
        self.cache_imports.append(replace(place, attrs={**place.attrs, "digest": digest}))

    def _receive(
        self,
        options: SolveOptions,
        handlers: Mapping[int, FileHandler],
        daemon_index: Callable[[int], int],
    ) -> None:
        files: dict[int, str | Output] = {}
        directories: dict[int, ReceivedDirectory] = {}
        for index, export in enumerate(options.exports):
            if not isinstance(export, Export):
                continue
            if export.is_layout:
                self._layouts[index] = LayoutReceiver(Path(export.directory or ""))
            elif export.directory is not None:
                directories[index] = ReceivedDirectory.of(export.directory, export.attrs)
            elif export.file is not None:
                files[index] = export.file
        if len(self._layouts) > 1:
            raise InvalidArgumentError(
                "a session has room for one directory: only one output may have tar=false"
            )
        if self._layouts:
            self._stores[EXPORT_STORE] = next(iter(self._layouts.values()))
        self._files = FileReceiver(files)
        all_handlers = {**self._files.handlers, **DirectoryReceiver(directories).handlers, **handlers}
        if all_handlers:
            by_daemon_index = {daemon_index(index): handler for index, handler in all_handlers.items()}
            self.attachables.append(FileSendServicer(by_daemon_index).register)


def _need(place: CachePlace, key: str, what: str) -> str:
    if not place.attrs.get(key):
        raise InvalidArgumentError(f"{what} requires {key}")
    return place.attrs[key]


def _cache_root(text: str) -> Descriptor:
    try:
        return decode_descriptor(text.encode())
    except ImageError as error:
        raise FailedPreconditionError(
            f"the {CACHE_MANIFEST} in the daemon's response cannot be read: {error}"
        ) from error
