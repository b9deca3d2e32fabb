"""A build that has exports of ours, from its request to its response."""

from __future__ import annotations

import asyncio
import hashlib
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from exporter.content.concurrency import gather
from exporter.content.protocol import Provider
from exporter.errors import FailedPreconditionError, failure_of
from exporter.image import CommitOptions, Descriptor
from exporter.image.keys import IMAGE_NAME, RESPONSE_PREFIX
from exporter.pb.moby.buildkit.v1 import control_pb2
from exporter.progress.producer import CANCELED
from exporter.source.saved.save import save_source
from exporter.source.types import BuildInfo
from exporter.takeover.backend import Exported, RegistryAccess, Resolved
from exporter.takeover.comparison import compare_configs, doubts_that_matter
from exporter.takeover.daemon_image import read_image
from exporter.takeover.destination import check_destination, delivering
from exporter.takeover.live_source import BuildResult, LiveSource, live_source
from exporter.takeover.plan import (
    PlannedExport,
    daemon_order,
    last_image,
    substitute_exports,
    wants_inline_only_provenance,
)
from exporter.takeover.progress import BuildProgress
from exporter.takeover.session_client import SessionClient
from exporter.takeover.vertex import ExportVertex

_SUBSTITUTE_KEYS = (RESPONSE_PREFIX, IMAGE_NAME)
"""What the response keys of the daemon's substitute begin with."""

_PLAIN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")


class OnEnd(Protocol):
    """Told that exporting, or publishing what was exported, has ended."""

    def __call__(self, phase: str, exporter_type: str, code: str, seconds: float) -> None:
        """Take note.

        Args:
            phase: ``export`` or ``finalize``.
            exporter_type: A type that its server has.
            code: ``OK``, or the name of a status code.
            seconds: How long it took.
        """
        ...


@dataclass(frozen=True, slots=True)
class BuildOptions:
    """An operator's choices that concern builds.

    Attributes:
        strict: Fail where the daemon's image differs from ours, and where something is doubtful.
        output_dir: Where clients may have files written; None for nowhere.
        source_dir: Where build results are saved; None for nowhere.
        tell_place: Let the build's progress say where images go that are stored.
        on_end: Told how exports end.
    """

    strict: bool = False
    output_dir: Path | None = None
    source_dir: Path | None = None
    tell_place: bool = False
    on_end: OnEnd | None = None


class ProxiedExport:
    """One export of ours.

    Args:
        plan: What was asked for.
        resolved: What its server says to that.
        build: The build.
    """

    def __init__(self, plan: PlannedExport, resolved: Resolved, build: ProxiedBuild) -> None:
        self.plan = plan
        self.substitute = plan.substitute(
            resolved.compression, build.request, is_saved=build.options.source_dir is not None
        )
        self.exported: Exported | None = None
        self.failure: Exception | None = None
        self.vertex = ExportVertex(
            build.session_id, build.daemon_index(plan.index), resolved.name, build.progress.put
        )
        self._build = build
        self._image_place = resolved.image_place if build.options.tell_place else ""
        self._place = plan.place or check_destination(plan, resolved, build.options.output_dir)
        self._has_begun = False

    async def run(
        self,
        root: Descriptor,
        client: SessionClient | None,
        content: Provider,
        access: RegistryAccess,
    ) -> None:
        """Export what the daemon has made.

        Args:
            root: Of the daemon's image.
            client: Whose build it is, if its session is not ours.
            content: The daemon's content store.
            access: Whose credentials registries are shown.

        Raises:
            Exception: the export failed; it is told to the client once more by the build's end.
        """
        if self._has_begun:
            raise FailedPreconditionError(f"exporter {self.plan.index} of this build has run already")
        self._has_begun = True
        self.vertex.begin()
        try:
            with self._timed("export"):
                self.exported = await self._export(root, client, content, access)
        except asyncio.CancelledError:
            self.vertex.end(CANCELED)
            raise
        except Exception as error:
            self.failure = error
            self.vertex.end(failure_of(error).message)
            raise
        self.vertex.end()

    @contextmanager
    def _timed(self, phase: str) -> Iterator[None]:
        started, code = time.monotonic(), "OK"
        try:
            yield
        except BaseException as error:
            code = failure_of(error).code.name
            raise
        finally:
            if self._build.options.on_end is not None:
                self._build.options.on_end(phase, self.plan.type, code, time.monotonic() - started)

    async def _export(
        self,
        root: Descriptor,
        client: SessionClient | None,
        content: Provider,
        access: RegistryAccess,
    ) -> Exported:
        live, build = await self._gather(root, content)
        if self._build.options.source_dir is not None:
            await save_source(live.source, build, self._build.options.source_dir / self._source_name())
        if self._image_place:
            self.vertex.log(f"the image goes to {self._image_place}")
        async with delivering(self.plan, client, self._place) as delivery:
            exported = await self.plan.backend.export(
                self.plan.index,
                self.plan.type,
                self.plan.attrs,
                source=live.source,
                build=build,
                destination=delivery.destination,
                access=access,
                sink=self.vertex.report,
            )
            await delivery.commit(exported)
            return exported

    async def _gather(self, root: Descriptor, content: Provider) -> tuple[LiveSource, BuildInfo]:
        """Put the build result together and check it."""
        image = await read_image(content, root)
        request = self._build.request
        live = live_source(
            self._build.result(),
            image,
            content,
            inline_only_provenance=wants_inline_only_provenance(request),
        )
        epoch = CommitOptions.load(dict(self.substitute.Attrs))[0].epoch
        doubts = map(str, await doubts_that_matter(live, image, epoch))
        differences = [f"image config of {d}" for d in await compare_configs(live, image, epoch)]
        for text in (*doubts, *differences):
            if self._build.options.strict:
                raise FailedPreconditionError(text)
            self.vertex.warn(text)
        return live, live.build_info(request.Ref, request.CompatibilityVersion)

    def _source_name(self) -> str:
        ref = self._build.request.Ref
        if not _PLAIN_NAME.fullmatch(ref):
            ref = hashlib.sha256(ref.encode()).hexdigest()
        return f"{ref}-{self.plan.index}"

    async def finalize(self) -> None:
        """Publish what was exported."""
        assert self.exported is not None
        if not self.exported.token:
            return
        try:
            with self._timed("finalize"):
                more = await self.plan.backend.finalize(self.exported.token, self.vertex.report)
        except Exception as error:
            self.failure = error
            raise
        self.exported = replace(self.exported, response={**self.exported.response, **more}, token="")

    async def discard(self) -> None:
        """Give up what was exported and is not published."""
        if self.exported is not None and self.exported.token:
            await self.plan.backend.discard(self.exported.token)


class ProxiedBuild:
    """A build that has exports of ours.

    Args:
        request: As the client sent it, but for the exporters' old field.
        plans: The exports of ours, with what their servers say to them.
        options: The operator's.
        progress: Takes what is added to the daemon's progress.

    Raises:
        InvalidArgumentError, PermissionDeniedError: a destination cannot be used.
    """

    def __init__(
        self,
        request: control_pb2.SolveRequest,
        plans: Sequence[tuple[PlannedExport, Resolved]],
        options: BuildOptions,
        progress: BuildProgress,
    ) -> None:
        self.request = request
        self.session_id = request.Session
        self.options = options
        self.progress = progress
        self._order = daemon_order(len(request.Exporters), [plan.index for plan, _ in plans])
        self._result: BuildResult | None = None
        self.exports = {plan.index: ProxiedExport(plan, resolved, self) for plan, resolved in plans}

    @property
    def client_has_exporters(self) -> bool:
        """Whether the client offers exporters of its own through its session."""
        return self.request.EnableSessionExporter

    def daemon_index(self, index: int) -> int:
        """The index that an exporter of the client's request has for the daemon."""
        return self._order.index(index)

    def client_index(self, daemon_index: int) -> int:
        """The index that an exporter of the daemon has for the client. Those of its own session follow."""
        return self._order[daemon_index] if daemon_index < len(self._order) else daemon_index

    def set_result(self, result: BuildResult) -> None:
        """Keep what the daemon told about the result."""
        self._result = result

    def result(self) -> BuildResult:
        """What the daemon told.

        Raises:
            FailedPreconditionError: it has told nothing.
        """
        if self._result is None:
            raise FailedPreconditionError(_TOO_OLD)
        return self._result

    def change_request(self, request: control_pb2.SolveRequest) -> None:
        """Change what the client asks for to what the daemon is asked for."""
        substitutes = {index: export.substitute for index, export in self.exports.items()}
        substitute_exports(request, self._order, substitutes)

    def rewrite_status(self, message: control_pb2.StatusResponse) -> None:
        """Change the daemon's progress to what the client is to be shown."""
        for export in self.exports.values():
            export.vertex.rewrite(message)

    def failed(self) -> ProxiedExport | None:
        """The first of our exports that failed; None if none did."""
        return next((export for export in self.exports.values() if export.failure is not None), None)

    def failure(self) -> Exception | None:
        """Why the first of our exports that failed did so."""
        export = self.failed()
        return None if export is None else export.failure

    async def finish(self, daemon_response: Mapping[str, str]) -> dict[str, str]:
        """Publish what was exported, the daemon's own exports having succeeded, and make the response.

        Raises:
            FailedPreconditionError: the daemon did not run an export.
            ExporterError: publishing failed.
        """
        for export in self.exports.values():
            if export.exported is None:
                raise FailedPreconditionError(
                    f"exporter {export.plan.index} was not run: buildkitd has ended the build without "
                    f"handing over its image; {_VERSION}"
                )
        await gather(export.finalize() for export in self.exports.values())
        return self._merge(daemon_response)

    async def discard(self) -> None:
        """Give up what was exported and is not published; there is nothing if the build has succeeded."""
        await gather(export.discard() for export in self.exports.values())

    def _merge(self, daemon_response: Mapping[str, str]) -> dict[str, str]:
        """Lay our responses over the daemon's: as in BuildKit, of two that have a key the last one counts."""
        last = last_image(self.request, self.exports.keys())
        response = dict(daemon_response)
        if last is None:  # what is told of an image is told of a substitute's
            response = {k: v for k, v in response.items() if not k.startswith(_SUBSTITUTE_KEYS)}
        before: dict[str, str] = {}
        after: dict[str, str] = {}
        for index, export in sorted(self.exports.items()):
            assert export.exported is not None
            (after if last is None or index > last else before).update(export.exported.response)
        return {**before, **response, **after}


_VERSION = "it has to be v0.22 or newer"
_TOO_OLD = f"buildkitd does not tell exporters outside about its build results; {_VERSION}"
