"""What a caller asks a build for: `BuildOptions`, and the frontend's attributes for them."""

from __future__ import annotations

import csv
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal, cast

from typing_extensions import TypedDict

from exporter.client.contexts import NamedContext
from exporter.client.credentials import Auth
from exporter.client.options import CachePlace
from exporter.client.outputs import AnyOutput
from exporter.daemon.services.secrets import Secret, SecretProvider
from exporter.daemon.ssh.agents import DEFAULT_ID, SSHAgent
from exporter.errors import InvalidArgumentError
from exporter.exporters.base import Exporter
from exporter.image import ImageError, Platform
from exporter.image.reference import Reference
from exporter.remotes.registry import RegistryOptions

SecretSource = bytes | str | os.PathLike[str] | SecretProvider | Secret
"""A secret: the value itself, the path of a file (as a `Path`), a function that returns the value, or a
`Secret`."""

SSHSource = bool | Sequence[SSHAgent] | Mapping[str, str | os.PathLike[str] | Sequence[str] | None]
"""SSH agents: True for the agent of ``$SSH_AUTH_SOCK``, `SSHAgent` values, or by ID the socket of an agent or
files with private keys (None for ``$SSH_AUTH_SOCK``)."""

AttestationOption = bool | str | Mapping[str, str]
"""An attestation: whether it is made, its mode (``min``, ``max``), or its attributes."""

_EPOCH = "SOURCE_DATE_EPOCH"
_NETWORKS = ("default", "host", "none")


class BuildOptions(TypedDict, total=False):
    """The options of a build; None is the same as leaving an option out.

    Attributes:
        dockerfile: The path of the Dockerfile, relative to the context; on this machine if it is absolute.
        dockerfile_inline: The text of the Dockerfile, instead.
        tags: The names of images.
        platforms: The target platforms, such as ``linux/arm64``; the daemon's own if none.
        args: Build arguments. ``SOURCE_DATE_EPOCH`` comes from the environment if it is not among them.
        target: The stage to build; the last one if empty.
        secrets: The secrets for ``RUN --mount=type=secret``, by ID.
        ssh: The agents for ``RUN --mount=type=ssh`` and for Git over SSH.
        labels: Labels of images.
        contexts: Additional contexts by name.
        cache_from: Where to import cache from. A string is a reference in a registry, or
            ``type=TYPE,KEY=VALUE...`` as for docker.
        cache_to: Where to export cache to; likewise.
        no_cache: Whether to ignore the cache, or the stages to ignore it for.
        pull: Whether to look for newer versions of images that the daemon has.
        network: The network of steps: ``default``, ``host`` or ``none``.
        entitlements: Privileges that the build may use (``network.host``, ``security.insecure``).
        attestations: Attestations by type (``provenance``, ``sbom``).
        outputs: The outputs. By default, the result stays in the cache, or becomes an image if there are tags
            or if a Docker engine builds. An `Exporter` runs in this process.
        add_hosts: Additional entries of ``/etc/hosts``: addresses by name.
        shm_size: The size of ``/dev/shm`` in bytes.
        auth: Credentials for registries, instead of the client's.
        frontend: The frontend, or the image of one.
        frontend_attrs: More attributes of the frontend, in its own spelling.
        ref: The ID of the build; a random one by default.
        strict: See `SolveOptions.strict`.
        save_source: See `SolveOptions.save_source`.
    """

    dockerfile: str | os.PathLike[str] | None
    dockerfile_inline: str | bytes | None
    tags: Sequence[str] | str | None
    platforms: Sequence[str | Platform] | str | None
    args: Mapping[str, str] | None
    target: str | None
    secrets: Mapping[str, SecretSource] | Sequence[Secret] | None
    ssh: SSHSource | None
    labels: Mapping[str, str] | None
    contexts: Mapping[str, NamedContext] | None
    cache_from: Sequence[CachePlace | str] | CachePlace | str | None
    cache_to: Sequence[CachePlace | str] | CachePlace | str | None
    no_cache: bool | Sequence[str] | None
    pull: bool | None
    network: Literal["default", "host", "none"] | None
    entitlements: Sequence[str] | None
    attestations: Mapping[str, AttestationOption] | None
    outputs: Sequence[AnyOutput | Exporter] | AnyOutput | Exporter | None
    add_hosts: Mapping[str, str] | None
    shm_size: int | None
    auth: Auth | RegistryOptions | None
    frontend: str | None
    frontend_attrs: Mapping[str, str] | None
    ref: str | None
    strict: bool | None
    save_source: str | os.PathLike[str] | None


def checked_options(options: BuildOptions) -> BuildOptions:
    """Drop options that are None.

    Raises:
        TypeError: there is no such option.
    """
    unknown = options.keys() - BuildOptions.__annotations__.keys()
    if unknown:
        raise TypeError(f"a build has no option {min(unknown)!r}")
    return cast(BuildOptions, {key: value for key, value in options.items() if value is not None})


_OF_FRONTENDS = frozenset(
    {"dockerfile", "dockerfile_inline", "args", "target", "labels", "contexts", "no_cache", "pull", "network"}
    | {"attestations", "add_hosts", "shm_size", "frontend", "frontend_attrs"}
)


def refuse_frontend_options(options: BuildOptions) -> None:
    """Reject options that only a frontend understands, for a build without one.

    Raises:
        InvalidArgumentError: there is one.
    """
    if found := sorted(options.keys() & _OF_FRONTENDS):
        raise InvalidArgumentError(
            f"{found[0]} is an option of the Dockerfile frontend: a definition in LLB says it itself"
        )


def frontend_attributes(options: BuildOptions) -> dict[str, str]:
    """The frontend's attributes, without those of contexts.

    Raises:
        InvalidArgumentError: an option is invalid.
    """
    args = dict(options.get("args") or {})
    if _EPOCH not in args and os.environ.get(_EPOCH):
        args[_EPOCH] = os.environ[_EPOCH]
    attrs = {f"build-arg:{name}": value for name, value in args.items()}
    attrs |= {f"label:{key}": value for key, value in (options.get("labels") or {}).items()}
    if target := options.get("target"):
        attrs["target"] = target
    if platforms := _platforms(options.get("platforms") or ()):
        attrs["platform"] = platforms
    match options.get("no_cache"):
        case None | False:
            pass
        case True:
            attrs["no-cache"] = ""
        case str(stage):
            attrs["no-cache"] = stage
        case stages:
            attrs["no-cache"] = ",".join(stages)
    if options.get("pull"):
        attrs["image-resolve-mode"] = "pull"
    network = options.get("network") or "default"
    if network not in _NETWORKS:
        raise InvalidArgumentError(f"network: {network!r} is not one of {', '.join(_NETWORKS)}")
    if network != "default":
        attrs["force-network-mode"] = network
    if hosts := options.get("add_hosts"):
        attrs["add-hosts"] = ",".join(f"{name}={address}" for name, address in hosts.items())
    if size := options.get("shm_size"):
        attrs["shm-size"] = str(size)
    for kind, value in (options.get("attestations") or {}).items():
        if (attested := _attestation(value)) is not None:
            attrs[f"attest:{kind}"] = attested
    return attrs


def frontend_of(options: BuildOptions, default: str) -> tuple[str, dict[str, str]]:
    """The frontend's name, and the attributes that select its image."""
    frontend = options.get("frontend") or default
    if "/" in frontend or ":" in frontend:
        return "gateway.v0", {"source": frontend}
    return frontend, {}


def entitlements_of(options: BuildOptions) -> list[str]:
    """The privileges that the build may use. Asking for the host's network implies permission."""
    found = list(options.get("entitlements") or ())
    if options.get("network") == "host" and "network.host" not in found:
        found.append("network.host")
    return found


def tags_of(options: BuildOptions) -> list[str]:
    """The names of images.

    Raises:
        InvalidArgumentError: a name is invalid.
    """
    tags = options.get("tags") or ()
    names = [tags] if isinstance(tags, str) else list(tags)
    for name in names:
        try:
            Reference.parse(name)
        except ImageError as error:
            raise InvalidArgumentError(f"tags: invalid name {name!r}: {error}") from error
    return names


def secrets_of(options: BuildOptions) -> list[Secret]:
    """The secrets.

    Raises:
        InvalidArgumentError: a secret has a type that secrets cannot have.
    """
    secrets = options.get("secrets") or {}
    if not isinstance(secrets, Mapping):
        return list(secrets)
    return [_secret(name, source) for name, source in secrets.items()]


def _secret(name: str, source: SecretSource) -> Secret:
    if isinstance(source, Secret):
        return source
    if isinstance(source, str):
        return Secret(name, value=source.encode())
    if isinstance(source, bytes):
        return Secret(name, value=source)
    if isinstance(source, os.PathLike):
        return Secret(name, file=Path(source))
    if callable(source):
        return Secret(name, provider=source)
    raise InvalidArgumentError(
        f"secrets[{name}]: a secret is a str, bytes, a Path, a function or a Secret, "
        f"not {type(source).__name__}"
    )


def agents_of(options: BuildOptions, *, needs_agent: bool) -> list[SSHAgent]:
    """The SSH agents.

    Args:
        options: The options.
        needs_agent: Whether an agent is required, even if none is given.
    """
    ssh = options.get("ssh")
    if ssh is None:
        ssh = needs_agent
    if isinstance(ssh, bool):
        return [SSHAgent()] if ssh else []
    if not isinstance(ssh, Mapping):
        return list(ssh)
    return [SSHAgent(name or DEFAULT_ID, _paths(places)) for name, places in ssh.items()]


def cache_places(
    places: Sequence[CachePlace | str] | CachePlace | str | None, defaults: Mapping[str, str]
) -> list[CachePlace]:
    """The places of cache.

    Raises:
        InvalidArgumentError: a text is neither a reference nor ``type=TYPE,KEY=VALUE...``.
    """
    given = [places] if isinstance(places, str | CachePlace) else list(places or ())
    return [_cache_place(place, defaults) if isinstance(place, str) else place for place in given]


def _cache_place(text: str, defaults: Mapping[str, str]) -> CachePlace:
    if "type=" not in text:
        try:
            Reference.parse(text)
        except ImageError as error:
            raise InvalidArgumentError(
                f"{text!r} is neither a reference in a registry nor type=TYPE,KEY=VALUE...: {error}"
            ) from error
        return CachePlace("registry", {**defaults, "ref": text})
    attrs = dict(defaults)
    for item in next(csv.reader([text])):
        key, separator, value = item.partition("=")
        if not separator:
            raise InvalidArgumentError(f"{item!r} in {text!r} has no value: write KEY=VALUE")
        attrs[key.strip().lower()] = value
    kind = attrs.pop("type", "")
    if not kind:
        raise InvalidArgumentError(f"{text!r} has no type: write type=TYPE,KEY=VALUE...")
    return CachePlace(kind, attrs)


def _paths(places: str | os.PathLike[str] | Sequence[str] | None) -> list[str]:
    if places is None:
        return []
    if isinstance(places, str | os.PathLike):
        return [os.fspath(places)]
    return [os.fspath(place) for place in places]


def _platforms(platforms: Sequence[str | Platform] | str) -> str:
    given = [platforms] if isinstance(platforms, str) else platforms
    return ",".join(each if isinstance(each, str) else each.format() for each in given)


def _attestation(value: AttestationOption) -> str | None:
    """The value of the frontend's attribute; None if it is not made."""
    if isinstance(value, bool):
        return "" if value else None
    attrs = {"mode": value} if isinstance(value, str) else value
    return ",".join(_quoted(f"{key}={text}") for key, text in sorted(attrs.items()))


def _quoted(pair: str) -> str:
    return '"' + pair.replace('"', '""') + '"' if "," in pair or '"' in pair else pair
