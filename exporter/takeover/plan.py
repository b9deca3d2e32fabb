"""Planning a build's exports: which ones are ours, and their substitutes in the daemon."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

from exporter.daemon.services.receive_directory import ReceivedDirectory
from exporter.errors import NotFoundError
from exporter.exporters.attribute_help import BEFORE_PUBLISH
from exporter.image import CompressionConfig, ImageError, epoch_from_build_args
from exporter.image.go import text as gotext
from exporter.image.options.attributes import (
    ATTESTATION_INLINE,
    COMPRESSION,
    COMPRESSION_LEVEL,
    FORCE_COMPRESSION,
    OCI_ARTIFACT,
    OCI_MEDIATYPES,
    PREFER_NONDIST_LAYERS,
    REWRITE_TIMESTAMP,
    SOURCE_DATE_EPOCH,
)
from exporter.pb.moby.buildkit.v1 import control_pb2
from exporter.takeover.backend import Backend
from exporter.takeover.history import Origin

DAEMON_TYPES = frozenset({"docker", "image", "local", "oci", "tar"})
"""Types that every buildkitd has."""

PLUGIN_PREFIX = "plugin."
"""The prefix that makes any type ours, including those of the daemon (``type=plugin.image``)."""

SUBSTITUTE = "oci"
"""The daemon's exporter that runs instead of ours. We reject its tar in the end."""

_IMAGE_TYPES = frozenset({"docker", "image", "oci", "registry"})
_LAYOUT_TYPES = frozenset({"docker", "oci"})
_PLAIN_FILE_TYPES = frozenset({"local", "tar"})
_PASSED_ON_FOR_IMAGES = (SOURCE_DATE_EPOCH, REWRITE_TIMESTAMP, PREFER_NONDIST_LAYERS)
_COMPRESSION_ATTRIBUTES = (COMPRESSION, FORCE_COMPRESSION, COMPRESSION_LEVEL)
_PROVENANCE = "attest:provenance"


@dataclass(frozen=True, slots=True)
class PlannedExport:
    """An export of ours.

    Attributes:
        index: Its index among all exporters of the build.
        type: The exporter's type, without prefix.
        client_type: The type as the client wrote it, which determines the files that the client accepts.
        client_attrs: Its attributes as the client wrote them.
        attrs: Its attributes, including those that a daemon adds.
        backend: The backend that runs it.
        place: The destination of its files on this machine: the path of a file or layout, or a directory for
            a tree of files. None if it is not decided yet, see `check_destination`.
    """

    index: int
    type: str
    client_type: str
    client_attrs: Mapping[str, str]
    attrs: Mapping[str, str]
    backend: Backend
    place: str | ReceivedDirectory | None = None

    @property
    def is_taken(self) -> bool:
        """Whether the client requested the daemon's own exporter of that type."""
        return self.client_type in DAEMON_TYPES

    def substitute(
        self, compression: CompressionConfig, request: control_pb2.SolveRequest, *, is_saved: bool = False
    ) -> control_pb2.Exporter:
        """The exporter that the daemon runs instead of this one.

        It creates the layers in the form that ours needs, so that their bytes are the daemon's own:
        compressed, and with rewritten timestamps, which an annotation records. If the client requested an
        image of the daemon's, that image goes into the daemon's history. Otherwise, the image has all
        attestations, even those that are for images only, since our exporter selects among them.

        Args:
            compression: The compression that our exporter needs.
            request: The build.
            is_saved: Whether the build result is saved for later exports of any type.
        """
        attrs = _compression_attributes(self, compression, request)
        passed_on = _PASSED_ON_FOR_IMAGES if self.type in _IMAGE_TYPES else (SOURCE_DATE_EPOCH,)
        attrs.update({key: self.attrs[key] for key in passed_on if key in self.attrs})
        attrs[ATTESTATION_INLINE] = "true"
        if self.is_taken and self.client_type in _IMAGE_TYPES and not is_saved:
            attrs.update(self._image_attributes())
        return control_pb2.Exporter(Type=SUBSTITUTE, Attrs={**attrs, **self.origin.attributes()})

    @property
    def origin(self) -> Origin:
        """The origin of the substitute, for the daemon's history."""
        return Origin(self.index, self.client_type, self.client_attrs)

    def _image_attributes(self) -> dict[str, str]:
        """The attributes with which the substitute creates the image that the client requested."""
        attrs = {key: value for key, value in self.attrs.items() if key.startswith("annotation")}
        if self.type in _LAYOUT_TYPES:
            attrs[ATTESTATION_INLINE] = "false"
        if self.type == "docker":
            attrs[OCI_MEDIATYPES] = "false"
        for key in (ATTESTATION_INLINE, OCI_ARTIFACT, OCI_MEDIATYPES):
            if key in self.attrs:
                attrs[key] = self.attrs[key]
        return attrs


def _compression_attributes(
    export: PlannedExport, compression: CompressionConfig, request: control_pb2.SolveRequest
) -> dict[str, str]:
    """The substitute's compression: that of the exporter, or else that of the cache export.

    Exports of files do not need layers, and the daemon would not have created any. Existing ones are reused.
    """
    if export.type in _PLAIN_FILE_TYPES:
        for cache in request.Cache.Exports:
            if wanted := {key: cache.Attrs[key] for key in _COMPRESSION_ATTRIBUTES if key in cache.Attrs}:
                return wanted
    attrs = {
        COMPRESSION: compression.type.value,
        FORCE_COMPRESSION: "true" if compression.force else "false",
    }
    if compression.level is not None:
        attrs[COMPRESSION_LEVEL] = str(compression.level)
    return attrs


@dataclass(frozen=True, slots=True)
class Routes:
    """Where exporters run.

    Attributes:
        local: Runs all types that are not in `remote`.
        local_types: The types of `local`.
        remote: The backends by type. The operator has chosen them, so they override the daemon's types.
        taken: Types that are ours although the daemon has them.
    """

    local: Backend
    local_types: frozenset[str]
    remote: Mapping[str, Backend]
    taken: frozenset[str] = frozenset()

    def find(self, client_type: str, *, has_hook: bool = False) -> tuple[str, Backend] | None:
        """The type and its backend; None if it is the daemon's.

        Args:
            client_type: The type that the client requested.
            has_hook: Whether a hook has to run. The daemon would publish without it, so the type is ours.
        """
        if client_type.startswith(PLUGIN_PREFIX):
            exporter_type = client_type.removeprefix(PLUGIN_PREFIX)
            return exporter_type, self.remote.get(exporter_type, self.local)
        if client_type in self.remote:
            return client_type, self.remote[client_type]
        is_only_ours = client_type in self.local_types and client_type not in DAEMON_TYPES
        is_hooked = has_hook and client_type in self.local_types
        if client_type in self.taken or is_only_ours or is_hooked:
            return client_type, self.local
        return None

    def check(self) -> None:
        """Check that a backend has each type in `taken`.

        Raises:
            NotFoundError: a type is missing.
        """
        missing = sorted(self.taken - self.local_types - self.remote.keys())
        if missing:
            raise NotFoundError(f"there is no exporter here for the types to be taken: {', '.join(missing)}")


def plan_exports(request: control_pb2.SolveRequest, routes: Routes) -> list[PlannedExport]:
    """Find the exports of a build that are ours.

    Args:
        request: The build. An exporter in the deprecated single field is moved to the list, as in the daemon.
        routes: Where exporters run.
    """
    if not request.Exporters and request.ExporterDeprecated:
        request.Exporters.add(Type=request.ExporterDeprecated, Attrs=dict(request.ExporterAttrsDeprecated))
    epoch = epoch_from_build_args(request.FrontendAttrs)
    planned = []
    for index, exporter in enumerate(request.Exporters):
        found = routes.find(exporter.Type, has_hook=bool(exporter.Attrs.get(BEFORE_PUBLISH)))
        if found is None:
            continue
        attrs = dict(exporter.Attrs)
        client_attrs = dict(exporter.Attrs)
        if epoch is not None:
            attrs.setdefault(SOURCE_DATE_EPOCH, epoch)
        exporter_type, backend = found
        planned.append(PlannedExport(index, exporter_type, exporter.Type, client_attrs, attrs, backend))
    return planned


def daemon_order(count: int, planned: Collection[int]) -> tuple[int, ...]:
    """The indices of a build's exports in the daemon's order: ours come first.

    If several exporters return a key, the daemon's response has the last one's value. With this order, it
    describes a requested image rather than that of a substitute.

    Args:
        count: The number of exports.
        planned: The indices of our exports.
    """
    return (*sorted(planned), *(index for index in range(count) if index not in planned))


def last_image(request: control_pb2.SolveRequest, planned: Collection[int]) -> int | None:
    """The index of the daemon's own export whose image its response describes, if any.

    An export to the client's layout counts as the last one: the client adds the image to the layout's index,
    and takes its descriptor from the response.

    Args:
        request: The build.
        planned: The indices of our exports.
    """
    last = None
    for index, exporter in enumerate(request.Exporters):
        if index not in planned and exporter.Type in _IMAGE_TYPES:
            if exporter.Type in _LAYOUT_TYPES and _is_false(exporter.Attrs.get("tar", "")):
                return len(request.Exporters)
            last = index
    return last


def _is_false(text: str) -> bool:
    with suppress(ImageError):
        return bool(text) and not gotext.parse_bool(text)
    return False


def substitute_exports(
    request: control_pb2.SolveRequest,
    order: Sequence[int],
    substitutes: Mapping[int, control_pb2.Exporter],
) -> None:
    """Replace our exporters in a request by the daemon's substitutes.

    Args:
        request: The build, which is changed.
        order: See `daemon_order`.
        substitutes: The substitutes by the index of our export.
    """
    exporters = [substitutes.get(index) or request.Exporters[index] for index in order]
    del request.Exporters[:]
    request.Exporters.extend(exporters)
    # Clients set both, and old daemons prefer these to the list.
    request.ExporterDeprecated = ""
    request.ExporterAttrsDeprecated.clear()
    request.EnableSessionExporter = True


def wants_inline_only_provenance(request: control_pb2.SolveRequest) -> bool:
    """Whether provenance was requested, but not in archives and directories."""
    value = request.FrontendAttrs.get(_PROVENANCE, "")
    return "inline-only=true" in value.split(",")
