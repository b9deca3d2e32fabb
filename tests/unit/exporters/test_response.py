from __future__ import annotations

import base64

import pytest

from exporter.errors import FailedPreconditionError
from exporter.exporters.response import image_names, image_response, image_root
from exporter.image import Descriptor
from exporter.image.media_types import OCI_MANIFEST

ROOT = Descriptor(OCI_MANIFEST, "sha256:" + "a" * 64, 7)


def test_the_root_is_read_as_it_was_written() -> None:
    assert image_root(image_response(ROOT, "")) == ROOT


@pytest.mark.parametrize(
    "value", ["", "=", base64.b64encode(b"[]").decode(), base64.b64encode(b"{").decode()]
)
def test_a_response_without_a_root(value: str) -> None:
    with pytest.raises(FailedPreconditionError, match=r"its containerimage\.descriptor in the response"):
        image_root({"containerimage.descriptor": value})


def test_names() -> None:
    assert image_names({}) == ()
    assert image_names({"image.name": "a:1,b"}) == ("a:1", "b")
