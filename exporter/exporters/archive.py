"""Images as tar archives, byte for byte as containerd's archive exporter writes them.

An archive is an OCI layout: blobs, ``oci-layout``, and ``index.json`` with one entry per name. An archive for
Docker also has the ``manifest.json`` of ``docker save``. Entries are sorted by name, owned by root and have
no timestamps, so the archive of an image is deterministic.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Collection, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace

from exporter.content.copy import OnBytes, load_graph, read_blob
from exporter.content.manifest import children
from exporter.content.protocol import Provider
from exporter.content.verify import split_digest
from exporter.errors import InvalidArgumentError
from exporter.exporters.blobs import read_verified
from exporter.exporters.destinations import FileSink
from exporter.image import Descriptor, Reference, index_bytes
from exporter.image.go import json as gojson
from exporter.image.keys import CONTAINERD_NAME, REF_NAME
from exporter.image.media_types import INDEX_TYPES, MANIFEST_TYPES
from exporter.layer.gotar import Header, TarWriter, TypeFlag
from exporter.layer.streams import Pieces

__all__ = ["Archive", "plan_archive"]


@dataclass(frozen=True, slots=True)
class _Entry:
    """An entry of the archive. Its content is `data` or a blob; a directory has neither."""

    name: str
    mode: int
    data: bytes = b""
    blob: Descriptor | None = None

    @property
    def size(self) -> int:
        return self.blob.size if self.blob is not None else len(self.data)

    def header(self) -> Header:
        kind = TypeFlag.DIR if self.name.endswith("/") else TypeFlag.REG
        return Header(name=self.name.encode(), typeflag=kind, mode=self.mode, size=self.size)


class Archive:
    """An archive that is completely planned but not yet written; created by `plan_archive`."""

    def __init__(self, provider: Provider, entries: Sequence[_Entry]) -> None:
        self._provider = provider
        self._entries = entries

    @property
    def size(self) -> int:
        """The total size of the files in bytes, without tar headers."""
        return sum(entry.size for entry in self._entries)

    async def write(self, sink: FileSink, on_bytes: OnBytes | None = None) -> None:
        """Stream the archive into `sink`, without committing it. Memory does not grow with its size.

        Raises:
            DataLossError: a blob does not match its descriptor.
            NotFoundError: a blob no longer exists.
        """
        written = Pieces()
        tar = TarWriter(written)
        for entry in self._entries:
            tar.write_header(entry.header())
            async with aclosing(_content(self._provider, entry)) as content:
                async for data in content:
                    tar.write(data)
                    await sink.write(written.take())
                    if on_bytes is not None:
                        on_bytes(len(data))
        tar.close()
        await sink.write(written.take())


async def _content(provider: Provider, entry: _Entry) -> AsyncGenerator[bytes, None]:
    if entry.blob is None:
        yield entry.data
        return
    async with aclosing(read_verified(provider, entry.blob)) as blob:
        async for data in blob:
            yield data


async def plan_archive(
    provider: Provider,
    root: Descriptor,
    names: Sequence[str],
    *,
    docker_manifest: bool,
    omit: Collection[str] = (),
) -> Archive:
    """Plan an image's archive.

    Args:
        provider: Has all of the image's blobs.
        root: The descriptor of the manifest or index.
        names: Fully qualified references; the archive's index gets an entry for each, or one without a name.
        docker_manifest: Whether to write ``manifest.json``. It describes a single image, so there is none for
            an index (as in containerd without a platform).
        omit: Digests of layers to leave out.

    Raises:
        InvalidArgumentError: the root is neither a manifest nor an index, or its content is malformed.
        DataLossError: a manifest does not match its descriptor.
        NotFoundError: a manifest is missing.
    """
    if root.media_type not in MANIFEST_TYPES | INDEX_TYPES:
        raise InvalidArgumentError(
            f"only manifests may be exported, not {root.media_type or 'a blob without type'}"
        )
    blobs = {node.descriptor.digest: node.descriptor for node in await load_graph(provider, [root])}
    algorithms = {split_digest(digest)[0] for digest in blobs}
    entries = [
        _Entry("oci-layout", 0o444, gojson.marshal({"imageLayoutVersion": "1.0.0"})),
        _Entry("index.json", 0o644, _index(root, names)),
        _Entry("blobs/", 0o755),
        *(_Entry(f"blobs/{algorithm}/", 0o755) for algorithm in algorithms),
        *(_Entry(_path(blob), 0o444, blob=blob) for blob in blobs.values() if blob.digest not in omit),
    ]
    if docker_manifest and root.media_type in MANIFEST_TYPES:
        data = await read_blob(provider, root)
        entries.append(_Entry("manifest.json", 0o644, _docker_manifest(children(root, data), names)))
    return Archive(provider, sorted(entries, key=lambda entry: entry.name))


def _path(blob: Descriptor) -> str:
    return "blobs/" + "/".join(split_digest(blob.digest))


def _index(root: Descriptor, names: Sequence[str]) -> bytes:
    return index_bytes([_named(root, name) for name in names] or [root], compact=True)


def _named(root: Descriptor, name: str) -> Descriptor:
    names = {CONTAINERD_NAME: name, REF_NAME: _reference_name(name)}
    return replace(root, annotations={**root.annotations, **names})


def _reference_name(name: str) -> str:
    """The tag, with the digest if there is one; the full name if there is no tag."""
    reference = Reference.parse(name)
    if reference.tag is None:
        return name
    return f"{reference.tag}@{reference.digest}" if reference.digest else reference.tag


def _docker_manifest(blobs: Sequence[Descriptor], names: Sequence[str]) -> bytes:
    config, *layers = blobs
    tags = [Reference.parse(name).tag_name_only().familiar_string for name in names]
    image: Mapping[str, object] = {
        "Config": _path(config),
        "RepoTags": tags or None,
        "Layers": [_path(layer) for layer in layers] or None,
    }
    return gojson.marshal([image])
