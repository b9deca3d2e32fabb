"""Pushing with a Docker engine whose exporter cannot push: through the engine's API, after the build."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from exporter.errors import PermissionDeniedError
from exporter.image import Reference
from exporter.image.keys import IMAGE_CONFIG_DIGEST, IMAGE_DIGEST
from exporter.progress.model import StatusSink
from exporter.remotes.docker_engine import EngineAddress

if TYPE_CHECKING:
    from exporter.remotes.registry import Credentials, RegistryOptions

_UNAUTHORIZED = 401


async def push_images(
    address: EngineAddress,
    names: Sequence[str],
    registries: RegistryOptions | None,
    response: Mapping[str, str],
    sink: StatusSink,
) -> dict[str, str]:
    """Let an engine push an image that it has built.

    Args:
        address: The engine.
        names: The image's names.
        registries: The source of credentials; docker's default if None.
        response: The build's response.
        sink: Receives the progress.

    Returns:
        Changes to the response, as in buildx: the digest is that of the first pushed manifest, and the
        image's ID becomes the digest of the config.

    Raises:
        ExporterError: a name cannot be pushed.
    """
    from exporter.exporters.docker_engine import push_from_engine
    from exporter.remotes.docker_engine.engine import DockerEngine
    from exporter.remotes.registry import RegistryOptions  # imported late, because it takes a moment

    source = (registries or RegistryOptions()).credentials
    digests = []
    async with DockerEngine(address) as engine:
        for name in names:
            host = Reference.parse(name).domain
            credentials = await source.get(host)
            try:
                digests.append(await push_from_engine(engine, name, _words(credentials, host), sink))
            except PermissionDeniedError as error:
                advice = credentials.advice(host, _UNAUTHORIZED)
                raise PermissionDeniedError(f"{error.message}; {advice}") from error
    changes = {IMAGE_DIGEST: digests[0]} if digests[0] else {}
    if IMAGE_DIGEST in response:
        changes[IMAGE_CONFIG_DIGEST] = response.get(IMAGE_CONFIG_DIGEST, response[IMAGE_DIGEST])
    return changes


def _words(credentials: Credentials, host: str) -> dict[str, str]:
    """Convert credentials for the engine's API."""
    words = {
        "username": credentials.username,
        "password": credentials.password,
        "identitytoken": credentials.identity_token,
        "registrytoken": credentials.registry_token,
    }
    found = {word: value for word, value in words.items() if value}
    return {**found, "serveraddress": host} if found else {}
