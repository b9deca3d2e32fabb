"""The places that `verify` can read images from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from exporter.cli.commands.verify import VerifyArgs
from exporter.cli.containerd import containerd_config
from exporter.cli.failures import UsageError
from exporter.cli.inspect.archive import ImageArchive
from exporter.cli.inspect.load import PlaceKind, kind_of
from exporter.cli.inspect.select import is_meant
from exporter.cli.registries import registry_options
from exporter.content.files import BlobDirectory, read_file
from exporter.content.root import open_root
from exporter.content.threads import run_in_thread
from exporter.errors import ExporterError, InvalidArgumentError, NotFoundError
from exporter.image import ImageError, Platform, PlatformMatcher, Reference
from exporter.progress.producer import VertexProgress
from exporter.remotes.containerd import Containerd, ContainerdConfig
from exporter.verify import (
    Checklist,
    Finding,
    ImageVerifier,
    IsWanted,
    Report,
    Subject,
    verify_docker_images,
)

if TYPE_CHECKING:
    from exporter.remotes.registry import RegistryOptions

_SMALL_FILE = 64 << 20


@dataclass(frozen=True, slots=True)
class Selection:
    """The images to verify.

    Attributes:
        place: A path, or the name of an image in a registry or in `containerd`.
        image: Verify only this image of a place that has several; None for all.
        platform: Verify only images for this platform; None for all.
        containerd: The containerd that has the image `place`, if any.
        registries: The configuration for registries; the user's Docker configuration if None.
        insecure: Accept any certificate of a registry, and plain HTTP.
    """

    place: str
    image: str | None = None
    platform: PlatformMatcher | None = None
    containerd: ContainerdConfig | None = None
    registries: RegistryOptions | None = None
    insecure: bool = False

    @classmethod
    def of(cls, options: VerifyArgs) -> Selection:
        """Convert the command's options.

        Raises:
            UsageError: an option is invalid.
        """
        platform = None
        if options.platform is not None:
            try:
                platform = PlatformMatcher(Platform.parse(options.platform))
            except ImageError as error:
                raise UsageError(
                    f"invalid value {options.platform} for --platform: {error}: write OS/ARCH[/VARIANT]"
                ) from error
        return cls(
            place=options.place,
            image=options.image,
            platform=platform,
            containerd=containerd_config(options),
            registries=registry_options(options),
            insecure=options.registry_insecure,
        )


async def verify_place(selection: Selection, progress: VertexProgress) -> Report:
    """Determine what a place is, and verify the images in it.

    Raises:
        UsageError: this kind of place cannot be verified.
        NotFoundError: it does not exist.
        ExporterError: it is not reachable.
    """
    path = Path(selection.place)
    if selection.containerd is not None:
        return await _verify_in_containerd(selection, selection.containerd, progress)
    if not await run_in_thread(path.exists):
        return await _verify_in_registry(selection, progress)
    if await run_in_thread((path / "index.json").is_file):
        return await _verify_layout(selection, path, progress)
    match await run_in_thread(kind_of, path):
        case PlaceKind.LAYOUT:
            return await _verify_layout(selection, path, progress)
        case PlaceKind.ROOT:
            return await _verify_root(selection, path, progress)
        case PlaceKind.FILE:
            return await _verify_archive(selection, path, progress)
        case PlaceKind.SAVED_SOURCE:
            raise UsageError(
                f"{path} is a saved source and not yet an image: export it, and verify the result"
            )


async def _verify_layout(selection: Selection, path: Path, progress: VertexProgress) -> Report:
    checklist = Checklist(progress=progress)
    wanted = _Wanted(selection.image)
    await _check_layout(path, checklist, selection.platform, wanted)
    wanted.check()
    return await checklist.finish()


async def _check_layout(
    path: Path, checklist: Checklist, platform: PlatformMatcher | None, wanted: _Wanted
) -> ImageVerifier:
    blobs = BlobDirectory(path / "blobs")
    verifier = ImageVerifier(blobs, checklist, platform=platform)
    files = [await run_in_thread(_read_if_there, path / name) for name in ("oci-layout", "index.json")]
    await verifier.layout(files[0], files[1], await run_in_thread(lambda: list(blobs.list())), wanted.filter)
    return verifier


async def _verify_root(selection: Selection, path: Path, progress: VertexProgress) -> Report:
    checklist = Checklist(progress=progress)
    wanted = _Wanted(selection.image)
    _, images = await open_root(path)
    verifier = await _check_layout(path / "oci", checklist, selection.platform, wanted)
    for image in await images.list():
        if wanted.filter is None or wanted.filter(image.tags, image.id):
            await verifier.stored_image(image.config, image.layers, ", ".join(image.tags) or image.id)
    wanted.check()
    return await checklist.finish()


async def _verify_archive(selection: Selection, path: Path, progress: VertexProgress) -> Report:
    # One blob at a time: seeking back in a compressed archive means reading it again from the beginning.
    checklist = Checklist(concurrency=1, progress=progress)
    wanted = _Wanted(selection.image)
    async with ImageArchive.open(path) as archive:
        verifier = ImageVerifier(archive, checklist, platform=selection.platform)
        if "index.json" in archive:
            layout = archive.read_file("oci-layout") if "oci-layout" in archive else None
            index = await run_in_thread(archive.read_file, "index.json")
            await verifier.layout(layout, index, archive.blobs(), wanted.filter)
        if "manifest.json" in archive:
            subject = Subject("archive", "(the archive)", "manifest.json")
            try:
                entries = await run_in_thread(archive.docker_images)
                checklist.add(subject, "schema")
            except InvalidArgumentError as error:
                checklist.add(subject, "schema", [Finding(error.message, "docker load refuses the archive")])
                entries = []
            await verify_docker_images(verifier, checklist, archive, entries, wanted.filter)
        elif "index.json" not in archive:
            raise InvalidArgumentError(
                f"{path} is not an image: the archive has neither index.json (OCI) nor manifest.json (Docker)"
            )
        wanted.check()
        return await checklist.finish()


async def _verify_in_containerd(
    selection: Selection, config: ContainerdConfig, progress: VertexProgress
) -> Report:
    _refuse_image(selection, "containerd")
    async with Containerd.connect(config) as connection:
        root = None
        for name in dict.fromkeys((selection.place, _whole_name(selection.place))):
            try:
                root = await connection.images.resolve(name)
                break
            except NotFoundError:
                continue
        if root is None:
            raise NotFoundError(
                f"containerd has no image {selection.place} in the namespace {config.namespace}"
            )
        checklist = Checklist(progress=progress)
        await ImageVerifier(connection.content, checklist, platform=selection.platform).image(root, name)
        return await checklist.finish()


async def _verify_in_registry(selection: Selection, progress: VertexProgress) -> Report:
    from exporter.remotes.registry.repository import open_repository

    _refuse_image(selection, "a registry")
    try:
        reference = Reference.parse(selection.place)
    except ImageError as error:
        raise NotFoundError(
            f"there is no file or directory {selection.place}, and it is not the name of an image: {error}"
        ) from error
    checklist = Checklist(progress=progress)
    options = selection.registries
    target = reference.tag_name_only()
    root = None
    try:
        async with open_repository(reference, insecure=selection.insecure, options=options) as repository:
            root = await repository.resolve(target.digest or target.tag or "")
            await ImageVerifier(repository, checklist, platform=selection.platform).image(root, str(target))
            return await checklist.finish()
    except ExporterError as error:
        if root is not None or selection.place.startswith(f"{reference.domain}/"):
            raise
        text = f"there is no file {selection.place}; as the name of an image: {error.message}"
        raise type(error)(text) from error


class _Wanted:
    """Selects images of a place, and remembers whether any matched.

    Args:
        image: A name or the prefix of a digest; None for all.
    """

    def __init__(self, image: str | None) -> None:
        self._image = image
        self._is_found = False
        self._others: dict[str, None] = {}
        self.filter: IsWanted | None = self._is_wanted if image is not None else None

    def _is_wanted(self, names: Sequence[str], digest: str) -> bool:
        is_wanted = is_meant(names, [digest], self._image or "")
        self._is_found = self._is_found or is_wanted
        self._others.update(dict.fromkeys(names or [digest]))
        return is_wanted

    def check(self) -> None:
        """Raise `NotFoundError` if no image matched."""
        if self._image is not None and not self._is_found:
            others = ", ".join(self._others) or "none"
            raise NotFoundError(f"there is no image {self._image}; the images are: {others}")


def _read_if_there(path: Path) -> bytes | None:
    try:
        return read_file(path, _SMALL_FILE)
    except FileNotFoundError:
        return None


def _whole_name(name: str) -> str:
    try:
        return str(Reference.parse(name).tag_name_only())
    except ImageError:
        return name


def _refuse_image(selection: Selection, where: str) -> None:
    if selection.image is not None:
        raise UsageError(
            f"IMAGE chooses among the images of a directory or archive; {where} gives one by its name"
        )
