"""``--metadata-file``: the exporters' response as JSON, in buildctl's format."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from pathlib import Path

from exporter.content.staging import Staging
from exporter.image import ImageError
from exporter.image.go import json as gojson

_LINE_BREAKS = str.maketrans("", "", "\r\n")


def marshal_metadata(response: Mapping[str, str]) -> bytes:
    """Serialize a response as indented JSON with sorted keys.

    A value that is the base64 of a non-empty JSON object, such as ``containerimage.descriptor``, becomes that
    object, with its keys in the original order.
    """
    values = {key: _value(text) for key, text in response.items()}
    return gojson.marshal_indent(gojson.sort_keys(values))


def write_metadata_file(path: Path, response: Mapping[str, str]) -> None:
    """Write the file atomically: readers see either the old or the new content. Blocks.

    Raises:
        OSError: the file cannot be written.
    """
    target = path.resolve()
    staging = Staging(target.parent / f".{target.name}.partial", path)
    staging.remove_stale()
    staged = staging.create(mode=0o666)
    try:
        staged.write(marshal_metadata(response))
        staged.publish(target)
    finally:
        staged.discard()


def _value(text: str) -> object:
    try:
        # Go's decoder skips line breaks, but nothing else.
        data = base64.b64decode(text.translate(_LINE_BREAKS), validate=True)
        node = gojson.parse(data)
    except (binascii.Error, ValueError, ImageError):
        return text
    return gojson.Verbatim(gojson.compact(data)) if node.kind == "object" and node.keys else text
