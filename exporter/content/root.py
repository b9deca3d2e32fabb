"""The root directory in which the command line and the server keep their images."""

from __future__ import annotations

from pathlib import Path

from exporter.content.images import ImageStore
from exporter.content.layout import OCILayout
from exporter.content.protocol import BlobInfo, ContentStore
from exporter.content.threads import run_in_thread
from exporter.errors import FailedPreconditionError, NotFoundError

_LAYOUT = "oci"
_IMAGES = "docker"


def layout_path(root: Path) -> Path:
    """The OCI layout below `root`."""
    return root / _LAYOUT


def image_store(root: Path, content: ContentStore) -> ImageStore:
    """The store of image IDs and names below `root`."""
    return ImageStore(root / _IMAGES, content)


async def open_root(root: Path) -> tuple[OCILayout, ImageStore]:
    """Open the embedded stores below `root`. If it does not exist, it is created for its owner only.

    ``oci`` is an OCI layout with all blobs, which other tools can read; ``docker`` has the image IDs and
    names of the ``moby`` exporter. Several processes may share a root.

    Raises:
        FailedPreconditionError: the directory holds something else.
    """
    await run_in_thread(_refuse_saved_source, root)
    await run_in_thread(root.mkdir, 0o700, parents=True, exist_ok=True)
    store = await OCILayout.open(layout_path(root))
    return store, image_store(root, store)


async def open_existing_root(root: Path) -> tuple[OCILayout, ImageStore]:
    """Open the embedded stores below `root` without creating anything.

    Raises:
        FailedPreconditionError: the directory holds something else, or a layout of an unknown version.
        NotFoundError: there are no stores.
    """
    await run_in_thread(_refuse_saved_source, root)
    if not await run_in_thread((root / _LAYOUT / "oci-layout").is_file):
        if not await run_in_thread(root.exists):
            raise NotFoundError(f"there is no image store {root}: the directory does not exist")
        raise NotFoundError(f"{root} is not an image store: it has no file {_LAYOUT}/oci-layout")
    store = await OCILayout.open(layout_path(root), create=False)
    return store, image_store(root, store)


async def prune_root(root: Path, *, before: float, unnamed: bool = False) -> list[BlobInfo]:
    """Remove the blobs that no image below `root` references.

    A concurrent export that relies on one of the removed blobs fails when it names its image. It has to be
    repeated, but does no harm.

    Args:
        root: See `open_root`.
        before: Unix seconds; newer blobs are kept, because an export may be about to use them.
        unnamed: First remove images without a name.

    Returns:
        The removed blobs.

    Raises:
        FailedPreconditionError: the directory holds something else, or something in it is damaged. No blob is
            removed then.
        NotFoundError: there is no image store.
        UnavailableError: timed out waiting for another process to release a lock.
    """
    store, images = await open_existing_root(root)
    async with images.pruning(before=before, unnamed=unnamed) as needed:
        return await store.prune(keep=needed, before=before, unnamed=unnamed)


def _refuse_saved_source(root: Path) -> None:
    """Its OCI layout looks like that of a store, but pruning it would destroy the saved source."""
    if (root / "source.json").is_file():
        raise FailedPreconditionError(
            f"{root} is a saved source and not an image store: choose another directory"
        )
