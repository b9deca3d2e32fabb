"""Messages at the end of an export that say where the images went."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence

from exporter.cli.outputs import Output
from exporter.engine.config import WorkplaceConfig
from exporter.exporters.image_types import pushes_image, stores_image
from exporter.image.keys import IMAGE_DIGEST, IMAGE_NAME
from exporter.progress.display import ProgressMode
from exporter.progress.sanitize import clean

_SILENT = frozenset({ProgressMode.QUIET, ProgressMode.RAWJSON})
_NOT_PUSHED = "warning: nothing was pushed: the image has no name; add name=REGISTRY/NAME:TAG to the output"


def tell_image_places(
    outputs: Sequence[Output],
    response: Mapping[str, str],
    store: WorkplaceConfig | str,
    *,
    progress: str,
) -> None:
    """Print to standard error where images were stored or pushed, unless progress is quiet or for programs.

    Args:
        outputs: The outputs, all of which have succeeded.
        response: The merged response of all exporters.
        store: The configuration of exports in this process, or the address of the server that ran them.
        progress: The progress mode.
    """
    if progress == ProgressMode.AUTO:
        progress = os.environ.get("BUILDKIT_PROGRESS") or progress
    if progress in _SILENT:
        return
    for output in outputs:
        name = output.attrs.get("name", "")
        if name in {"", "*"}:
            name = response.get(IMAGE_NAME, "")
        is_named = bool(name)
        name = name or response.get(IMAGE_DIGEST, "")
        if isinstance(store, WorkplaceConfig):
            place = store.place_of(output.type, output.attrs)
        else:
            place = f"the store of the server at {store}" if stores_image(output.type, output.attrs) else ""
        if place:
            print(f"stored {clean(name)} in {clean(place)}", file=sys.stderr)
        if pushes_image(output.type, output.attrs):
            print(f"pushed {clean(name)}" if is_named else _NOT_PUSHED, file=sys.stderr)
