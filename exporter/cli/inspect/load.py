"""Finding the images in a directory or file."""

from __future__ import annotations

import enum
from collections.abc import AsyncIterator, Iterable, Sequence
from pathlib import Path

from exporter.cli.inspect.archive import ImageArchive
from exporter.cli.inspect.view import ArtifactView, Contents, ImageView, LayerView, view_image
from exporter.content.copy import read_blob
from exporter.content.index import LayoutIndex
from exporter.content.layout import OCILayout
from exporter.content.manifest import children
from exporter.content.protocol import Provider
from exporter.content.root import open_root
from exporter.content.threads import run_in_thread
from exporter.errors import FailedPreconditionError, InvalidArgumentError, NotFoundError
from exporter.image import Descriptor, ImageError, digest_bytes, moby_config, parse_platforms
from exporter.image.keys import (
    CONTAINERD_NAME,
    IMAGE_CONFIG,
    IMAGE_NAME,
    REF_NAME,
    REFERENCE_DIGEST,
    parse_key,
)
from exporter.image.media_types import CONFIG_TYPES, INDEX_TYPES, MANIFEST_TYPES
from exporter.source.saved.load import SavedSource
from exporter.source.types import Ref

_MAX_DEPTH = 8  # of indexes within indexes


async def load_contents(path: Path) -> Contents:
    """Determine what a path is, and load the images in it.

    Raises:
        NotFoundError: it does not exist, or a blob is missing.
        InvalidArgumentError, FailedPreconditionError, DataLossError: it is not an image, or is damaged.
    """
    match await run_in_thread(kind_of, path):
        case PlaceKind.LAYOUT:
            layout = await OCILayout.open(path, create=False)
            return Contents("OCI layout", await _indexed(layout, await layout.index()))
        case PlaceKind.SAVED_SOURCE:
            return Contents("saved source", await _saved_images(path))
        case PlaceKind.ROOT:
            return Contents("image store", await _stored_images(path))
        case PlaceKind.FILE:
            async with ImageArchive.open(path) as archive:
                return await _archive_contents(archive, path)


class PlaceKind(enum.Enum):
    """What a path is."""

    LAYOUT = enum.auto()
    SAVED_SOURCE = enum.auto()
    ROOT = enum.auto()
    FILE = enum.auto()


def kind_of(path: Path) -> PlaceKind:
    """Determine what a path is. Blocks.

    Raises:
        NotFoundError: it does not exist.
        InvalidArgumentError: it is a directory of a different kind.
    """
    if not path.exists():
        raise NotFoundError(f"{path} does not exist")
    if not path.is_dir():
        return PlaceKind.FILE
    if (path / "source.json").is_file():
        return PlaceKind.SAVED_SOURCE
    if (path / "oci-layout").is_file():
        return PlaceKind.LAYOUT
    if (path / "oci" / "oci-layout").is_file():
        return PlaceKind.ROOT
    raise InvalidArgumentError(
        f"{path} is not an image: it is neither an OCI layout (it has no file oci-layout), "
        "nor a saved source (no source.json), nor an image store (no oci/oci-layout)"
    )


async def _archive_contents(archive: ImageArchive, path: Path) -> Contents:
    if "index.json" in archive:
        try:
            index = LayoutIndex.parse(await run_in_thread(archive.read_file, "index.json"))
            roots = index.descriptors()
        except ImageError as error:
            raise InvalidArgumentError(f"{path}: index.json: {error}") from error
        return Contents("OCI archive", await _indexed(archive, roots))
    if "manifest.json" in archive:
        return Contents("Docker archive", await run_in_thread(_docker_images, archive))
    raise InvalidArgumentError(
        f"{path} is not an image: the archive has neither index.json (OCI) nor manifest.json (docker save)"
    )


async def _indexed(provider: Provider, roots: Sequence[Descriptor]) -> tuple[ImageView | ArtifactView, ...]:
    return tuple(
        [item for root, names in with_names(roots) async for item in _walk(provider, root, names, 0)]
    )


def with_names(roots: Iterable[Descriptor]) -> list[tuple[Descriptor, tuple[str, ...]]]:
    """Group the entries of an ``index.json`` by digest, with all names of each."""
    names: dict[str, list[str]] = {}
    unique: dict[str, Descriptor] = {}
    for root in roots:
        unique.setdefault(root.digest, root)
        name = root.annotations.get(CONTAINERD_NAME) or root.annotations.get(REF_NAME)
        names.setdefault(root.digest, []).extend([name] if name else [])
    return [(root, tuple(names[digest])) for digest, root in unique.items()]


async def _walk(
    provider: Provider, descriptor: Descriptor, names: tuple[str, ...], depth: int
) -> AsyncIterator[ImageView | ArtifactView]:
    if descriptor.media_type not in INDEX_TYPES | MANIFEST_TYPES:
        yield ArtifactView(names, descriptor)
        return
    if depth > _MAX_DEPTH:
        raise FailedPreconditionError(
            f"index {descriptor.digest}: more than {_MAX_DEPTH} indexes in each other"
        )
    parts = children(descriptor, await read_blob(provider, descriptor))
    if descriptor.media_type in INDEX_TYPES:
        for part in parts:
            async for item in _walk(provider, part, names, depth + 1):
                yield item
        return
    yield await view_manifest(provider, descriptor, parts, names)


async def view_manifest(
    provider: Provider, descriptor: Descriptor, parts: Sequence[Descriptor], names: tuple[str, ...]
) -> ImageView | ArtifactView:
    """Build the view of a manifest from its children: its config, and its layers, base first.

    Raises:
        NotFoundError, DataLossError, InvalidArgumentError: the config is missing or damaged.
    """
    config, *layers = parts
    subject = descriptor.annotations.get(REFERENCE_DIGEST, "")
    if subject or config.media_type not in CONFIG_TYPES:
        return ArtifactView(names, descriptor, subject, tuple(layers))
    views = [LayerView(layer.digest, "", layer.size, layer.media_type) for layer in layers]
    return view_image(names, descriptor, config.digest, await read_blob(provider, config), views)


def _docker_images(archive: ImageArchive) -> tuple[ImageView, ...]:
    images = []
    for entry in archive.docker_images():
        config = archive.read_file(entry["Config"])
        layers = [LayerView(size=archive.size(name)) for name in entry["Layers"] or []]
        missing = [name for name in entry["Layers"] or [] if archive.size(name) is None]
        if missing:
            raise NotFoundError(f"the archive has no file {missing[0]}, which manifest.json names as a layer")
        images.append(view_image(entry["RepoTags"] or [], None, digest_bytes(config), config, layers))
    return tuple(images)


async def _stored_images(root: Path) -> tuple[ImageView | ArtifactView, ...]:
    """The images in an image store: those with manifests, and those of type ``moby``."""
    layout, images = await open_root(root)
    found = list(await _indexed(layout, await layout.index()))
    for image in await images.list():
        config = await read_blob(layout, image.config)
        layers = [LayerView(layer.digest, "", layer.size, layer.media_type) for layer in image.layers]
        found.append(view_image(image.tags, None, image.id, config, layers))
    return tuple(found)


async def _saved_images(path: Path) -> tuple[ImageView, ...]:
    saved = await SavedSource.open(path)
    source = saved.source
    try:
        platforms = parse_platforms(source.metadata)
    except ImageError as error:
        raise InvalidArgumentError(f"{path}/source.json: {error}") from error
    names = [
        name for name in source.metadata.get(IMAGE_NAME, b"").decode("utf-8", "replace").split(",") if name
    ]
    images = []
    for platform in platforms:
        key = None if source.refs is None else platform.id
        ref, found = source.find_ref(platform.id)
        if not found:
            raise InvalidArgumentError(f"{path}/chains.json: there is no ref for platform {platform.id}")
        config = parse_key(source.metadata, IMAGE_CONFIG, key) or b""
        images.append(await _saved_image(names, config, ref))
    return tuple(images)


async def _saved_image(names: Sequence[str], config: bytes, ref: Ref | None) -> ImageView:
    """The image that the moby exporter would create: its history has an entry for each layer."""
    if ref is None:
        return view_image(names, None, "", moby_config(config, [], None), [])
    remote = await ref.remote()
    chain = [layer.metadata() for layer in await ref.layer_chain()]
    layers = [
        LayerView(descriptor.digest, diff_id, descriptor.size, descriptor.media_type)
        for descriptor, diff_id in zip(remote.descriptors, remote.diff_ids, strict=True)
    ]
    return view_image(names, None, "", moby_config(config, remote.diff_ids, chain), layers)
