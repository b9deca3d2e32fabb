"""Naming images concurrently with others: a service with scripted answers."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import grpc.aio
import pytest
from google.protobuf import empty_pb2

from exporter.errors import InvalidArgumentError, NotFoundError, UnavailableError
from exporter.image import Descriptor, digest_bytes
from exporter.pb.containerd.services.images.v1 import images_pb2, images_pb2_grpc
from exporter.remotes.containerd.images import ImageRecords
from tests.sessions import serving

TARGET = Descriptor(
    "application/vnd.oci.image.manifest.v1+json", digest_bytes(b"m"), 1, annotations={"key": "value"}
)
OK, TAKEN, GONE = grpc.StatusCode.OK, grpc.StatusCode.ALREADY_EXISTS, grpc.StatusCode.NOT_FOUND
METADATA = (("containerd-namespace", "test"),)


class Images(images_pb2_grpc.ImagesServicer):
    """Returns scripted answers, and records the calls."""

    def __init__(self, *answers: grpc.StatusCode) -> None:
        self.answers = list(answers)
        self.calls: list[Any] = []

    async def _answer(self, request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> None:
        assert dict(context.invocation_metadata() or ())["containerd-namespace"] == "test"
        self.calls.append(request)
        code = self.answers.pop(0)
        if code is not OK:
            await context.abort(code, "as the test wants it")

    async def Get(self, request: Any, context: Any) -> images_pb2.GetImageResponse:  # noqa: N802
        await self._answer(request, context)
        return images_pb2.GetImageResponse(image=self.calls[0].image)

    async def Update(self, request: Any, context: Any) -> images_pb2.UpdateImageResponse:  # noqa: N802
        await self._answer(request, context)
        return images_pb2.UpdateImageResponse(image=request.image)

    async def Create(self, request: Any, context: Any) -> images_pb2.CreateImageResponse:  # noqa: N802
        await self._answer(request, context)
        return images_pb2.CreateImageResponse(image=request.image)

    async def List(self, request: Any, context: Any) -> images_pb2.ListImagesResponse:  # noqa: N802
        raise AssertionError("nobody asks for all images")

    async def Delete(self, request: Any, context: Any) -> empty_pb2.Empty:  # noqa: N802
        raise AssertionError("nobody removes images")


@asynccontextmanager
async def records(images: Images) -> AsyncIterator[ImageRecords]:
    async with serving(
        lambda server: images_pb2_grpc.add_ImagesServicer_to_server(images, server)
    ) as channel:
        yield ImageRecords(channel, METADATA)


@pytest.mark.parametrize(
    ("answers", "calls"),
    [
        ([OK], "U"),
        ([GONE, OK], "UC"),
        # Made by another between the two calls.
        ([GONE, TAKEN, OK], "UCU"),
        # And removed again.
        ([GONE, TAKEN, GONE, OK], "UCUC"),
        ([GONE, TAKEN, GONE, TAKEN, OK], "UCUCU"),
    ],
)
async def test_a_name_is_changed_or_made(answers: list[grpc.StatusCode], calls: str) -> None:
    images = Images(*answers)
    async with records(images) as store:
        await store.put("a:1", TARGET)
    kinds = {images_pb2.UpdateImageRequest: "U", images_pb2.CreateImageRequest: "C"}
    assert "".join(kinds[type(call)] for call in images.calls) == calls
    for call in images.calls:
        assert (call.image.name, call.image.target.digest) == ("a:1", TARGET.digest)
        assert dict(call.image.target.annotations) == {"key": "value"}
        assert not call.HasField("source_date_epoch")


async def test_an_update_changes_only_the_named_fields() -> None:
    images = Images(OK)
    async with records(images) as store:
        await store.put("a", TARGET)
    assert list(images.calls[0].update_mask.paths) == ["target"]


@pytest.mark.parametrize("epoch", [0, 1700000000])
async def test_the_epoch_is_a_label(epoch: int) -> None:
    images = Images(GONE, OK)
    async with records(images) as store:
        await store.put("a", TARGET, epoch=epoch)
    assert [call.source_date_epoch.seconds for call in images.calls] == [epoch, epoch]
    assert all(call.HasField("source_date_epoch") for call in images.calls)


@pytest.mark.parametrize("before", [[], [GONE]])
@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (grpc.StatusCode.INVALID_ARGUMENT, InvalidArgumentError),
        (grpc.StatusCode.UNAVAILABLE, UnavailableError),
    ],
)
async def test_other_answers_are_failures(
    before: list[grpc.StatusCode], code: grpc.StatusCode, kind: type[Exception]
) -> None:
    async with records(Images(*before, code)) as store:
        with pytest.raises(kind, match="image a: as the test wants it"):
            await store.put("a", TARGET)


async def test_names_can_be_looked_up() -> None:
    async with records(Images(OK, OK, GONE)) as store:
        await store.put("a", TARGET)
        assert await store.resolve("a") == TARGET
        with pytest.raises(NotFoundError, match="image b"):
            await store.resolve("b")
