"""Build results for tests: in memory, or the samples in the package."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from exporter.content.memory import MemoryStore
from exporter.image import Descriptor, Time, digest_bytes
from exporter.image.keys import DIFF_ID, IMAGE_CONFIG
from exporter.image.media_types import OCI_LAYER
from exporter.source.inline import InlineRef
from exporter.source.samples import DEFAULT, sample_directory, sample_names
from exporter.source.saved.load import SavedSource
from exporter.source.types import Attestation, Layer, Ref, Source

__all__ = ["MemoryLayer", "load_sample", "ref_of", "sample_names", "source_of"]

_CREATED_AT = Time.parse("2024-05-06T07:08:09.123456789Z")


@dataclass(frozen=True)
class MemoryLayer:
    """An uncompressed layer in memory. It is deterministic: the same files give the same bytes.

    Attributes:
        files: Contents by path, relative to the root. Parent directories are created automatically.
        description: The step that created it, for the image's history.
        created_at: The creation time, which is also that of its files; None if unknown.
    """

    files: Mapping[str, bytes] = field(default_factory=dict)
    description: str = "RUN make"
    created_at: Time | None = _CREATED_AT

    def tar(self) -> bytes:
        """The layer's bytes.

        Raises:
            ValueError: a path is absolute, or outside of the root.
        """
        out = io.BytesIO()
        moment = (self.created_at or _CREATED_AT).unix
        with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as archive:
            for name in sorted(self._directories()):
                entry = tarfile.TarInfo(name)
                entry.type, entry.mode, entry.mtime = tarfile.DIRTYPE, 0o755, moment
                archive.addfile(entry)
            for name, data in sorted(self.files.items()):
                entry = tarfile.TarInfo(name)
                entry.size, entry.mtime = len(data), moment
                archive.addfile(entry, io.BytesIO(data))
        return out.getvalue()

    def _directories(self) -> set[str]:
        found: set[str] = set()
        for name in self.files:
            path = PurePosixPath(name)
            if path.is_absolute() or ".." in path.parts:
                raise ValueError(f"{name!r} is not a path within a layer")
            found.update(str(parent) for parent in path.parents if parent != PurePosixPath())
        return found


def ref_of(*layers: MemoryLayer, ref_id: str = "ref") -> Ref:
    """Create a ref.

    Args:
        layers: Its layers, base first.
        ref_id: Its ID. The IDs of the layers are derived from it.
    """
    tars = [layer.tar() for layer in layers]
    chain = [
        Layer(f"{ref_id}-{index}", layer.description, layer.created_at) for index, layer in enumerate(layers)
    ]
    descriptors = [
        Descriptor(OCI_LAYER, digest_bytes(tar), len(tar), annotations={DIFF_ID: digest_bytes(tar)})
        for tar in tars
    ]
    return InlineRef(ref_id, chain, descriptors, MemoryStore(*tars))


def source_of(
    *layers: MemoryLayer,
    platforms: Mapping[str, Sequence[MemoryLayer]] | None = None,
    config: bytes | None = None,
    metadata: Mapping[str, bytes] | None = None,
    attestations: Mapping[str, Sequence[Attestation]] | None = None,
) -> Source:
    """Create a build result.

    Args:
        layers: The layers of a result that is not keyed by platform; without layers, it has no ref.
        platforms: The layers by platform ID, such as ``linux/amd64``; without layers, a platform has no ref.
        config: The image config, for all platforms.
        metadata: Additional metadata of the frontend; see `exporter.image.keys`.
        attestations: The attestations by platform ID.

    Raises:
        ValueError: both layers and platforms are given.
    """
    if layers and platforms is not None:
        raise ValueError("a result has either a single ref or refs by platform")
    told = dict(metadata or {})
    if config is not None:
        told[IMAGE_CONFIG] = config
    if platforms is None:
        return Source(ref_of(*layers) if layers else None, None, told, attestations or {})
    refs = {key: ref_of(*own, ref_id=f"ref-{key}") if own else None for key, own in platforms.items()}
    return Source(None, refs, told, attestations or {})


async def load_sample(name: str = DEFAULT) -> SavedSource:
    """Load a small recorded build result from the package; `sample_names` lists them.

    Raises:
        NotFoundError: the sample does not exist.
    """
    return await SavedSource.open(sample_directory(name))
