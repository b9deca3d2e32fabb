"""Refs whose chain and layers are already known."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

from exporter.content.protocol import Provider
from exporter.content.verify import split_digest
from exporter.errors import FailedPreconditionError, InvalidArgumentError
from exporter.image import CompressionConfig, Descriptor
from exporter.image.keys import DIFF_ID
from exporter.source.files import RefTree
from exporter.source.types import Layer, LayerChain, Remote

OpenFiles = Callable[[Path], AbstractAsyncContextManager[RefTree | None]]
"""Opens the files of a ref; see `FilesRef.files`."""


class InlineRef:
    """A ref that arrived with its chain and layers, so that nothing has to be fetched.

    Args:
        id: The record's ID.
        chain: The layers' metadata, base first.
        descriptors: The layers, base first, with their diff IDs in the annotation `DIFF_ID`.
        provider: Has the layers' blobs.
        open_files: See `FilesRef.files`; None if nobody sends the files.
    """

    def __init__(
        self,
        id: str,
        chain: Sequence[Layer],
        descriptors: Sequence[Descriptor],
        provider: Provider,
        open_files: OpenFiles | None = None,
    ) -> None:
        self._open_files = open_files
        self._id = id
        self._chain = tuple(chain)
        self._remote = Remote(tuple(descriptors), provider)

    @property
    def id(self) -> str:
        """See `Ref.id`."""
        return self._id

    async def remote(self, compression: CompressionConfig | None = None) -> Remote:
        """See `Ref.remote`. The layers are returned as they are; `compression` is ignored."""
        return self._remote

    async def layer_chain(self) -> LayerChain:
        """See `Ref.layer_chain`."""
        return self._chain

    @asynccontextmanager
    async def files(self, scratch: Path) -> AsyncIterator[RefTree | None]:
        """See `FilesRef.files`."""
        if self._open_files is None:
            yield None
            return
        async with self._open_files(scratch) as tree:
            yield tree

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._id!r}, {len(self._chain)} layers)"


def check_chain(chain: Sequence[Layer], descriptors: Sequence[Descriptor], *, field: str = "") -> None:
    """Check a ref's chain and descriptors, as far as that is possible without reading blobs.

    Args:
        chain: The layers' metadata.
        descriptors: The layers.
        field: For errors: path of the message with the fields ``chain`` and ``descriptors``.

    Raises:
        FailedPreconditionError: their lengths differ.
        InvalidArgumentError: a layer has no ID, or a descriptor has no valid media type, digest, size or diff
            ID; `ExporterError.field` says which.
    """
    prefix = f"{field}." if field else ""
    if len(chain) != len(descriptors):
        raise FailedPreconditionError(
            f"the layer chain has {len(chain)} layers, but there are {len(descriptors)} descriptors",
            field=f"{prefix}chain",
        )
    for index, layer in enumerate(chain):
        if not layer.id:
            raise InvalidArgumentError("the layer has no ID", field=f"{prefix}chain[{index}].id")
    for index, descriptor in enumerate(descriptors):
        _check_descriptor(descriptor, f"{prefix}descriptors[{index}]")


def _check_descriptor(descriptor: Descriptor, field: str) -> None:
    if not descriptor.media_type:
        raise InvalidArgumentError("the layer has no media type", field=f"{field}.media_type")
    _check_digest(descriptor.digest, f"{field}.digest")
    if descriptor.size < 0:
        raise InvalidArgumentError(
            f"the layer cannot have a size of {descriptor.size}", field=f"{field}.size"
        )
    if DIFF_ID not in descriptor.annotations:
        raise InvalidArgumentError(
            f"the layer has no annotation {DIFF_ID}, which says its diff ID", field=f"{field}.annotations"
        )
    _check_digest(descriptor.annotations[DIFF_ID], f"{field}.annotations[{DIFF_ID}]")


def _check_digest(digest: str, field: str) -> None:
    try:
        split_digest(digest)
    except InvalidArgumentError as error:
        raise InvalidArgumentError(error.message, field=field) from error
