"""What is in the directory that the command line and the server keep their images in."""

from __future__ import annotations

from pathlib import Path

from exporter.content.images import ImageStore
from exporter.content.layout import OCILayout
from exporter.content.threads import run_in_thread


async def open_root(root: Path) -> tuple[OCILayout, ImageStore]:
    """Open the embedded stores below `root`, which is made for its owner alone if it does not exist.

    ``oci`` is an OCI layout with all blobs, for any tool that can read one; ``docker`` has the image IDs and
    names of the ``moby`` exporter. Processes may share a root.

    Raises:
        FailedPreconditionError: the directory holds something else.
    """
    await run_in_thread(root.mkdir, 0o700, parents=True, exist_ok=True)
    store = await OCILayout.open(root / "oci")
    return store, await ImageStore.open(root / "docker", store)
