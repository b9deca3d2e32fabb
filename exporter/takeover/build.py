"""A build with exports of ours, from the request to the response."""

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
"""The prefix of the response keys of the daemon's substitute."""

_PLAIN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")


class OnEnd(Protocol):
    """A callback for the end of exporting or publishing."""

    def __call__(self, phase: str, exporter_type: str, code: str, seconds: float) -> None:
        """Record the end of a phase.

        Args:
            phase: ``export`` or ``finalize``.
            exporter_type: A type that its server has.
            code: ``OK``, or the name of a status code.
            seconds: The duration.
        """
        ...


@dataclass(frozen=True, slots=True)
class BuildOptions:
    """An operator's options for builds.

    Attributes:
        strict: Fail if the daemon's image differs from ours, or if the build result is ambiguous.
        output_dir: The directory below which clients may request files, if any.
        source_dir: The directory for saving build results, if any.
        tell_place: Whether the build's progress says where images are stored.
        on_end: Called when a phase of an export ends.
    """

    strict: bool = False
    output_dir: Path | None = None
    source_dir: Path | None = None
    tell_place: bool = False
    on_end: OnEnd | None = None


class ProxiedExport:
    """One export of ours.

    Args:
        plan: The requested export.
        resolved: The exporter as its backend resolved it.
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
        """Export the daemon's build result.

        Args:
            root: The root descriptor of the daemon's image.
            client: The build's client, if its session is not ours.
            content: The daemon's content store.
            access: The credentials for registries.

        Raises:
            Exception: the export failed. The client also sees this as the build's failure.
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
        """Assemble the build result and check it."""
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
        """Publish the export's results."""
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
        """Discard unpublished results of the export."""
        if self.exported is not None and self.exported.token:
            await self.plan.backend.discard(self.exported.token)


class ProxiedBuild:
    """A build that has exports of ours.

    Args:
        request: The client's request, with the deprecated single exporter moved to the list.
        plans: Our exports, as they were planned and resolved.
        options: The operator's options.
        progress: Receives additions to the daemon's progress.

    Raises:
        InvalidArgumentError, PermissionDeniedError: a destination is not usable.
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
        """Whether the client offers its own exporters through its session."""
        return self.request.EnableSessionExporter

    def daemon_index(self, index: int) -> int:
        """Convert the index of an exporter in the client's request to the daemon's index."""
        return self._order.index(index)

    def client_index(self, daemon_index: int) -> int:
        """Convert the daemon's index of an exporter to the client's. Exporters of its session come last."""
        return self._order[daemon_index] if daemon_index < len(self._order) else daemon_index

    def set_result(self, result: BuildResult) -> None:
        """Store the daemon's description of the result."""
        self._result = result

    def result(self) -> BuildResult:
        """The daemon's description of the result.

        Raises:
            FailedPreconditionError: the daemon has not sent it.
        """
        if self._result is None:
            raise FailedPreconditionError(_TOO_OLD)
        return self._result

    def change_request(self, request: control_pb2.SolveRequest) -> None:
        """Replace our exporters in the client's request by the daemon's substitutes."""
        substitutes = {index: export.substitute for index, export in self.exports.items()}
        substitute_exports(request, self._order, substitutes)

    def rewrite_status(self, message: control_pb2.StatusResponse) -> None:
        """Rewrite the daemon's progress for the client."""
        for export in self.exports.values():
            export.vertex.rewrite(message)

    def failed(self) -> ProxiedExport | None:
        """The first of our exports that failed, if any."""
        return next((export for export in self.exports.values() if export.failure is not None), None)

    def failure(self) -> Exception | None:
        """The exception of the first of our exports that failed, if any."""
        export = self.failed()
        return None if export is None else export.failure

    async def finish(self, daemon_response: Mapping[str, str]) -> dict[str, str]:
        """Publish our exports after the daemon's own have succeeded, and build the response.

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
        """Discard unpublished results. After a successful build, this is a no-op."""
        await gather(export.discard() for export in self.exports.values())

    def _merge(self, daemon_response: Mapping[str, str]) -> dict[str, str]:
        """Merge our responses into the daemon's. As in BuildKit, the last value of a key wins."""
        last = last_image(self.request, self.exports.keys())
        response = dict(daemon_response)
        if last is None:  # the daemon's keys describe a substitute's image
            response = {k: v for k, v in response.items() if not k.startswith(_SUBSTITUTE_KEYS)}
        before: dict[str, str] = {}
        after: dict[str, str] = {}
        for index, export in sorted(self.exports.items()):
            assert export.exported is not None
            (after if last is None or index > last else before).update(export.exported.response)
        return {**before, **response, **after}


_VERSION = "it has to be v0.22 or newer"
_TOO_OLD = f"buildkitd does not tell exporters outside about its build results; {_VERSION}"
