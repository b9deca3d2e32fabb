"""Checking a layer blob while it is read."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from exporter.content.verify import Verifier
from exporter.errors import DataLossError, InvalidArgumentError
from exporter.image import Descriptor
from exporter.layer.streams import Readable, drain


@contextmanager
def verified(source: Readable, descriptor: Descriptor) -> Iterator[Readable]:
    """Give a blob to read, and check it against its descriptor when the block ends.

    Errors that the block raises get the layer's digest into their text. That a blob is not the right one
    explains whatever else was wrong with it, so this is what is raised then.

    Raises:
        DataLossError: the blob is not what the descriptor says.
    """
    blob = _VerifyingReader(source, descriptor)
    try:
        yield blob
    except (DataLossError, InvalidArgumentError) as error:
        blob.finish()
        raise type(error)(f"layer {descriptor.digest}: {error.message}") from error
    blob.finish()


class _VerifyingReader:
    def __init__(self, source: Readable, descriptor: Descriptor) -> None:
        self._source = source
        self._verifier = Verifier(descriptor)

    def read(self, size: int) -> bytes:
        data = self._source.read(size)
        self._verifier.update(data)
        return data

    def finish(self) -> None:
        """Read what is left, and check the whole."""
        drain(self)
        self._verifier.finish()
