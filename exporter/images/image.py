"""An image as an immutable value."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from exporter.content.memory import MemoryStore
from exporter.content.overlay import MultiProvider
from exporter.content.protocol import Provider
from exporter.content.threads import run_in_thread
from exporter.errors import FailedPreconditionError, InvalidArgumentError, NotFoundError
from exporter.image import Descriptor, History, Platform, Time, digest_bytes, parse_history
from exporter.image.config.go_types import IMAGE
from exporter.image.go import json as gojson
from exporter.image.keys import IMAGE_BASE_CONFIG, IMAGE_CONFIG, PLATFORMS, platform_key
from exporter.image.media_types import DOCKER_CONFIG, DOCKER_MANIFEST, OCI_CONFIG, OCI_MANIFEST
from exporter.images import documents
from exporter.images.difference import difference
from exporter.images.files import ImageFiles
from exporter.images.layer import ImageLayer
from exporter.images.origin import ImageOrigin, Workshop
from exporter.images.writing import LayerContent, write_layer
from exporter.layer.files import LayerFiles
from exporter.source.inline import InlineRef
from exporter.source.types import Layer, Remote, Source


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Image:
    """An image for one platform. Changes return a new image.

    Config and manifest keep their bytes until something in them changes. Even then, unchanged keys keep their
    order and text. Layers are read only when needed.

    Attributes:
        config: The config's bytes.
        manifest: The manifest's bytes.
        layers: The layers, base first.
        platform: The platform.
        workshop: The scratch directory, limits and compression for changes.
        origin: The build result that the image was made from.
        same_files: Whether the image has the same files as the build result.
    """

    config: bytes
    manifest: bytes
    layers: tuple[ImageLayer, ...]
    platform: Platform
    workshop: Workshop
    origin: ImageOrigin = field(default_factory=ImageOrigin, repr=False)
    same_files: bool = True

    # --- properties ---

    @property
    def config_digest(self) -> str:
        """The digest of the config, which is the image ID."""
        return digest_bytes(self.config)

    @property
    def config_descriptor(self) -> Descriptor:
        """The descriptor of the config."""
        media_type = OCI_CONFIG if self._is_oci else DOCKER_CONFIG
        return Descriptor(media_type, self.config_digest, len(self.config))

    @property
    def digest(self) -> str:
        """The digest of the manifest, by which a registry identifies the image."""
        return digest_bytes(self.manifest)

    @property
    def media_type(self) -> str:
        """The media type of the manifest."""
        return OCI_MANIFEST if self._is_oci else DOCKER_MANIFEST

    @property
    def descriptor(self) -> Descriptor:
        """The descriptor of the manifest."""
        return Descriptor(self.media_type, self.digest, len(self.manifest), platform=self.platform)

    @property
    def provider(self) -> Provider:
        """A provider of all blobs of the image, for example for `copy_chain`."""
        provider = MultiProvider(MemoryStore(self.config, self.manifest))
        for layer in self.layers:
            provider.add(layer.digest, layer.provider)
        return provider

    @property
    def diff_ids(self) -> tuple[str, ...]:
        """The digests of the uncompressed layers, base first."""
        return tuple(layer.diff_id for layer in self.layers)

    @property
    def base_layers(self) -> int:
        """The number of layers of the base image; 0 if the build does not say."""
        return self.origin.base_layers(self.diff_ids)

    @property
    def annotations(self) -> dict[str, str]:
        """The annotations of the manifest."""
        return documents.annotations_of(self.manifest)

    @property
    def labels(self) -> dict[str, str]:
        """The labels."""
        return dict(self._runtime["Labels"] or {})

    @property
    def env(self) -> dict[str, str]:
        """The environment variables."""
        return dict(text.partition("=")[::2] for text in self._runtime["Env"] or ())

    @property
    def user(self) -> str:
        """The user that containers run as; empty for the default."""
        user: str = self._runtime["User"]
        return user

    @property
    def entrypoint(self) -> tuple[str, ...]:
        """The entrypoint."""
        return tuple(self._runtime["Entrypoint"] or ())

    @property
    def cmd(self) -> tuple[str, ...]:
        """The default arguments of the entrypoint."""
        return tuple(self._runtime["Cmd"] or ())

    @property
    def working_dir(self) -> str:
        """The working directory; empty for the default."""
        directory: str = self._runtime["WorkingDir"]
        return directory

    @property
    def created(self) -> Time | None:
        """The creation time; None if the config has none."""
        created: Time | None = self._parsed["created"]
        return created

    @property
    def history(self) -> tuple[History, ...]:
        """The history, oldest first."""
        return parse_history(self.config) or ()

    @property
    def images(self) -> dict[str, Image]:
        """This image by its platform ID, as in `ImageIndex`."""
        return {self.origin.platform_id or self.platform.format_all(): self}

    @asynccontextmanager
    async def files(self) -> AsyncIterator[ImageFiles]:
        """Unpack the layers on top of each other. The files are removed when the block ends.

        Raises:
            DataLossError: a layer is damaged.
            InvalidArgumentError: a layer is malformed.
            NotFoundError: a layer no longer exists.
            ResourceExhaustedError: the files exceed the limit for unpacked files.
        """
        with await self._unpack() as unpacked:
            yield ImageFiles(unpacked)

    def source(self) -> Source:
        """The image as a build result, for an exporter. Exporters do not change its history.

        It keeps attestations of the original build result: provenance, and SBOMs if the image still has the
        same files.
        """
        platform_id, origin = self._platform_id, self.origin.source
        metadata = {**self._metadata(origin.metadata), IMAGE_CONFIG: self.config}
        if PLATFORMS in metadata:
            metadata[PLATFORMS] = platforms_json({platform_id: self})
        attestations = self.origin.attestations(same_files=self.same_files)
        return Source(self.ref(), None, metadata, {platform_id: attestations} if attestations else {})

    def ref(self) -> ImageRef | None:
        """The layers as a ref of a build result; None without layers."""
        return ImageRef(self) if self.layers else None

    # --- changes of the config and the manifest ---

    async def map(self, change: Callable[[Image], Image | Awaitable[Image]]) -> Image:
        """Change the image; `ImageIndex.map` does the same for each image of an index."""
        result = change(self)
        return result if isinstance(result, Image) else await result

    def with_config(self, changes: Mapping[str, object]) -> Image:
        """Set keys of the object ``config`` in the config, such as ``User``; None removes a key."""
        return self._changed(config=documents.edit_runtime(self.config, changes))

    def with_fields(self, changes: Mapping[str, object]) -> Image:
        """Set top-level keys of the config, such as ``author``; None removes a key."""
        return self._changed(config=documents.edit_config(self.config, changes))

    def with_labels(self, labels: Mapping[str, str | None]) -> Image:
        """Set labels; None removes one."""
        merged = documents.changed(dict(self.labels), labels)
        return self.with_config({"Labels": gojson.sort_keys(merged) or None})

    def with_env(self, variables: Mapping[str, str | None]) -> Image:
        """Set environment variables. Existing ones keep their place, new ones follow; None removes one."""
        merged = documents.changed(dict(self.env), variables)
        return self.with_config({"Env": [f"{key}={value}" for key, value in merged.items()] or None})

    def with_user(self, user: str) -> Image:
        """Set the user that containers run as, such as ``1000:1000``."""
        return self.with_config({"User": user or None})

    def with_created(self, created: Time) -> Image:
        """Set the creation time. Later times in the history are clamped to it."""
        return self._changed(config=documents.set_created(self.config, created))

    def with_platform(self, platform: Platform) -> Image:
        """Set the platform."""
        names = ("architecture", "os", "os.version", "os.features", "variant")
        changes = {name: platform.to_dict().get(name) for name in names}
        changed = self._changed(config=documents.edit_config(self.config, changes))
        return replace(changed, platform=platform.normalized())

    def with_annotations(self, annotations: Mapping[str, str | None]) -> Image:
        """Set annotations of the manifest; None removes one."""
        return self._changed(annotations=documents.changed(dict(self.annotations), annotations))

    def with_history(self, change: Callable[[History], History]) -> Image:
        """Change the entries of the history, one by one. Changes to `empty_layer` are ignored.

        Args:
            change: Called with each entry, oldest first.
        """
        entries = []
        for fields, old in zip(documents.history_of(self.config), self.history, strict=True):
            new = change(old)
            texts = ("created_by", "author", "comment")
            changes = {name: getattr(new, name) or None for name in texts}
            changes = {name: text for name, text in changes.items() if (text or "") != getattr(old, name)}
            if new.created != old.created:
                changes["created"] = None if new.created is None else new.created.marshal()
            entries.append(documents.changed(fields, changes))
        return self._changed(config=documents.map_history(self.config, lambda _: entries))

    def without_history(self) -> Image:
        """Remove the history, which contains build arguments and commands."""
        return self._changed(config=documents.edit_config(self.config, {"history": None}))

    def with_layers(
        self, layers: Sequence[ImageLayer], *, config: bytes | None = None, same_files: bool
    ) -> Image:
        """Replace the layers. The history is not changed.

        Args:
            layers: The new layers with their diff IDs, base first.
            config: A new config, whose diff IDs will be set; None to keep the current one.
            same_files: Whether the files stay the same.
        """
        config = documents.set_layers(
            self.config if config is None else config, [layer.diff_id for layer in layers]
        )
        changed = self._changed(config=config, layers=layers)
        return replace(changed, same_files=self.same_files and same_files)

    def with_media_types(self, *, oci: bool) -> Image:
        """Convert the media types to OCI's or Docker's."""
        return self if oci == self._is_oci else self._changed(oci=oci)

    # --- changes of layers ---

    async def append_layer(
        self, content: LayerContent, *, created_by: str = "", created: Time | None = None
    ) -> Image:
        """Add a layer on top.

        Args:
            content: A directory, files in walk order (`FileEntry`), or the bytes of a tar.
            created_by: The command to record in the history.
            created: The creation time to record in the history; None for the image's own.

        Raises:
            InvalidArgumentError: an entry cannot be written to a layer.
            OSError: a file cannot be read, or the layer cannot be written.
        """
        layer = await write_layer(content, self.workshop.scratch, self.workshop.compression)
        entry = documents.new_history_entry(created_by, created or self.created)
        config = documents.map_history(self.config, lambda entries: [*entries, entry])
        return self.with_layers([*self.layers, layer], config=config, same_files=False)

    async def squash(self, *, above: int | str = 0, created_by: str = "") -> Image:
        """Merge layers into one. The files stay the same.

        Args:
            above: Merge the layers above this one: the number of layers to keep, or the digest or diff ID of
                the topmost layer to keep.
            created_by: The command to record in the history for the merged layer.

        Raises:
            DataLossError: a layer is damaged.
            FailedPreconditionError: the history does not fit the layers.
            InvalidArgumentError: `above` exceeds the number of layers, or a layer is malformed.
            NotFoundError: the image does not have the layer `above`, or a layer no longer exists.
            ResourceExhaustedError: the files exceed the limit for unpacked files.
        """
        kept, total = self._count(above), len(self.layers)
        if total - kept < 2:
            return self
        text = created_by or f"squash of {total - kept} layers"
        config = documents.map_history(
            self.config, lambda entries: documents.squashed_history(entries, kept, total, text)
        )
        with await self._unpack(keep=kept) as unpacked:
            entries = await run_in_thread(difference, unpacked)
            layer = await write_layer(entries, self.workshop.scratch, self.workshop.compression)
        return self.with_layers([*self.layers[:kept], layer], config=config, same_files=True)

    def rebase(self, old_base: Image, new_base: Image) -> Image:
        """Replace the base image without a rebuild. Layers are not read.

        The platform and the base's part of the history come from the new base. Other settings in the
        config are kept.

        Raises:
            FailedPreconditionError: the image is not based on the old base, or the history does not fit the
                layers.
        """
        count = len(old_base.layers)
        if self.diff_ids[:count] != old_base.diff_ids:
            raise FailedPreconditionError("the image does not begin with the layers of the old base")
        own = documents.history_of(self.config)
        if own:
            start = len(documents.history_of(old_base.config))
            base, rest = own[:start], own[start:]
            if sum(not documents.is_empty(entry) for entry in base) != count:
                base, rest = documents.split_history(own, count, len(self.layers))
            own = [*documents.history_of(new_base.config), *rest]
        config = documents.edit_config(self.config, {"history": own or None})
        layers = [*new_base.layers, *self.layers[count:]]
        return self.with_layers(layers, config=config, same_files=False).with_platform(new_base.platform)

    # --- internals ---

    @property
    def _is_oci(self) -> bool:
        return documents.is_oci(self.manifest)

    @property
    def _parsed(self) -> dict[str, Any]:
        parsed: dict[str, Any] = gojson.decode(self.config, IMAGE, "Image")
        return parsed

    @property
    def _runtime(self) -> dict[str, Any]:
        runtime: dict[str, Any] = self._parsed["config"]
        return runtime

    @property
    def _platform_id(self) -> str:
        return self.origin.platform_id or self.platform.format_all()

    def _metadata(self, metadata: Mapping[str, bytes]) -> dict[str, bytes]:
        """The metadata of the build result that still applies."""
        stale = {IMAGE_CONFIG, platform_key(IMAGE_CONFIG, self._platform_id)}
        if not self.base_layers:
            stale |= {IMAGE_BASE_CONFIG, platform_key(IMAGE_BASE_CONFIG, self._platform_id)}
        return {key: value for key, value in metadata.items() if key not in stale}

    def _changed(
        self,
        *,
        config: bytes | None = None,
        layers: Sequence[ImageLayer] | None = None,
        annotations: Mapping[str, str] | None = None,
        oci: bool | None = None,
    ) -> Image:
        config = self.config if config is None else config
        layers = self.layers if layers is None else tuple(layers)
        manifest = documents.edit_manifest(
            self.manifest,
            config=config,
            config_digest=digest_bytes(config),
            layers=[layer.descriptor for layer in layers],
            annotations=self.annotations if annotations is None else annotations,
            oci=self._is_oci if oci is None else oci,
        )
        return replace(self, config=config, layers=tuple(layers), manifest=manifest)

    def _count(self, above: int | str) -> int:
        """The number of layers to keep."""
        if isinstance(above, int):
            if not 0 <= above <= len(self.layers):
                raise InvalidArgumentError(
                    f"the image has {len(self.layers)} layers: there is none above layer {above}"
                )
            return above
        for position, layer in enumerate(self.layers, 1):
            if above in {layer.digest, layer.diff_id}:
                return position
        raise NotFoundError(f"the image has no layer {above}")

    async def _unpack(self, *, keep: int | None = None) -> LayerFiles:
        remote = Remote(tuple(layer.descriptor for layer in self.layers), self.provider)
        return await LayerFiles.unpack(
            remote, scratch=self.workshop.scratch, max_size=self.workshop.max_content_bytes, keep=keep
        )


class ImageRef(InlineRef):
    """The layers of an image as a ref. Image exporters recognize it, and write the image unchanged.

    Attributes:
        image: The image.
    """

    def __init__(self, image: Image) -> None:
        filled = [entry for entry in image.history if not entry.empty_layer]
        entries = filled if len(filled) == len(image.layers) else [History()] * len(image.layers)
        super().__init__(
            image.digest,
            [
                Layer(layer.digest, entry.created_by, entry.created)
                for layer, entry in zip(image.layers, entries, strict=True)
            ],
            [layer.descriptor for layer in image.layers],
            image.provider,
        )
        self.image = image


def platforms_json(images: Mapping[str, Image]) -> bytes:
    """The platforms of a build result, for its metadata."""
    return gojson.marshal(
        {"Platforms": [{"ID": key, "Platform": image.platform.to_dict()} for key, image in images.items()]}
    )
