"""Adding to the SBOM of an image which layer each file is in."""

from __future__ import annotations

import posixpath
from dataclasses import dataclass
from functools import cache
from typing import Final

from exporter.errors import FailedPreconditionError
from exporter.exporters.attestations import spdx
from exporter.exporters.attestations.layer_paths import clean_path, layer_paths
from exporter.image import Descriptor
from exporter.image.keys import ATTESTATION_SBOM_CORE
from exporter.source.types import Attestation, LayerChain, Remote

__all__ = ["SBOMSupplement"]


@cache
def own_name() -> str:
    """The tool that documents name besides their scanner, if the builder is unknown."""
    from importlib import metadata  # slow, and only SBOMs need it

    try:
        version = metadata.version("buildkit-exporter")
    except metadata.PackageNotFoundError:  # not installed: run from a source tree
        version = "unknown"
    return f"buildkit-exporter-{version}"


_SPDX: Final = "https://spdx.dev/Document"
_WHITEOUT: Final = ".wh."


@dataclass(frozen=True, slots=True)
class SBOMSupplement:
    """Adds the layers of one platform's image to its SBOM.

    Attributes:
        chain: The layer chain; None if the platform has no ref, in which case SBOMs stay unchanged.
        remote: The layers as they are in the image.
        builder: The tool that the document names as its creator; BuildKit names itself. See `BuildInfo`.
    """

    chain: LayerChain | None
    remote: Remote
    builder: str = ""

    async def supplement(self, attestation: Attestation, predicate: bytes) -> bytes:
        """Add the layers to a predicate that is the SBOM of the image itself.

        Other predicates stay unchanged and so does, as in BuildKit, one that is not an SPDX document.

        Raises:
            FailedPreconditionError: layer chain and layers differ in length; with BuildKit's text.
            ImageError: the document cannot be written again; with BuildKit's text.
            NotFoundError: a layer no longer exists.
        """
        if self.chain is None or not _is_core(attestation):
            return predicate
        try:
            document = spdx.read(predicate)
        except spdx.SPDXError:
            return predicate
        if len(self.chain) != len(self.remote.descriptors):
            raise FailedPreconditionError("layer chain and descriptor list are not the same length")
        finder = _LayerFinder(self.remote)
        for file in spdx.uncommented_files(document):
            layer = await finder.find(file["fileName"])
            if layer is not None:
                file["comment"] = f"layerID: {layer.digest}"
        return spdx.write(document, creator=self.builder or own_name())


def _is_core(attestation: Attestation) -> bool:
    core = attestation.metadata.get(ATTESTATION_SBOM_CORE)
    name = posixpath.basename(attestation.path.rstrip("/")).partition(".")[0]
    return attestation.predicate_type == _SPDX and core is not None and core == name.encode()


class _LayerFinder:
    """Finds the topmost layer that contains a file. Reads layers from the top down, and only as necessary.

    A file that a later layer deletes is attributed to the layer that created it.
    """

    def __init__(self, remote: Remote) -> None:
        self._provider = remote.provider
        self._pending = list(remote.descriptors)
        self._found: dict[str, Descriptor] = {}

    async def find(self, path: str) -> Descriptor | None:
        wanted = clean_path(path)
        while wanted not in self._found and self._pending:
            layer = self._pending.pop()
            for name in await layer_paths(self._provider, layer):
                if not posixpath.basename(name).startswith(_WHITEOUT):
                    self._found.setdefault(name, layer)
        return self._found.get(wanted)
