"""Parsing values of flags of ``build``, like buildctl and buildx."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from exporter.cli.csvvalue import split_fields
from exporter.cli.failures import UsageError
from exporter.client.options import CachePlace
from exporter.daemon.services.secrets import Secret
from exporter.daemon.ssh.agents import DEFAULT_ID, SSHAgent, open_agent
from exporter.errors import ExporterError, ImageError, InvalidArgumentError
from exporter.image.go.text import lower, parse_bool
from exporter.image.reference import Reference

_EPOCH = "SOURCE_DATE_EPOCH"
_PRIVILEGES = ("network.host", "security.insecure")
_DEVICE = "device"
_LOCAL_DELETE = "buildx.local.delete"


def key_values(texts: Iterable[str], option: str) -> dict[str, str]:
    """Parse ``KEY=VALUE``.

    Raises:
        UsageError: ``=`` is missing.
    """
    pairs = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not key or not equals:
            raise UsageError(f"invalid value for {option}: {text!r}: write KEY=VALUE")
        pairs[key] = value
    return pairs


def build_args(texts: Iterable[str], environ: Mapping[str, str]) -> dict[str, str]:
    """Parse build arguments. Those without a value get it from the environment, or are omitted.

    As in BuildKit's own clients, ``SOURCE_DATE_EPOCH`` is always taken from the environment.
    """
    args = {_EPOCH: environ[_EPOCH]} if environ.get(_EPOCH) else {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not name:
            raise UsageError(f"invalid value for --build-arg: {text!r}: write NAME=VALUE")
        if equals:
            args[name] = value
        elif name in environ:
            args[name] = environ[name]
    return args


def parse_secret(text: str, environ: Mapping[str, str]) -> Secret:
    """Parse ``id=ID[,src=FILE|,env=NAME]``. As in buildctl, an ID alone names a variable or else a file.

    Raises:
        UsageError: the text is malformed, or the file is missing.
    """
    values = _fields(text, "--secret")
    unknown = values.keys() - {"type", "id", "source", "src", "env"}
    if unknown:
        raise UsageError(f"invalid value for --secret: unexpected key {min(unknown)!r} in {text!r}")
    kind = values.get("type", "")
    if kind not in {"", "file", "env"}:
        raise UsageError(f"invalid value for --secret: unsupported secret type {kind!r}")
    secret_id = values.get("id", "")
    if not secret_id:
        raise UsageError(
            f"invalid value for --secret: {text!r} has no id: write id=ID,src=FILE or id=ID,env=NAME"
        )
    source, variable = values.get("src", values.get("source", "")), values.get("env", "")
    if kind == "env" and not variable:
        source, variable = "", source
    if variable:
        secret = Secret(secret_id, env=variable)
    elif source:
        secret = Secret(secret_id, file=Path(source).expanduser())
    else:
        secret = Secret.named(secret_id, environ)
    if secret.file is not None and not secret.file.exists():
        raise UsageError(f"invalid value for --secret: there is no file {secret.file}")
    return secret


def parse_cache(text: str, option: str, defaults: Mapping[str, str]) -> CachePlace:
    """Parse ``type=TYPE,KEY=VALUE...``. A name alone means a reference in a registry.

    Args:
        text: The value.
        option: The option's name.
        defaults: Default attributes.

    Raises:
        UsageError: the text is malformed.
    """
    if "type=" not in text:
        check_reference(text, f"{option}: invalid reference {text!r}")
        return CachePlace("registry", {**defaults, "ref": text})
    values = _fields(text, option)
    cache_type = values.pop("type", "")
    if not cache_type:
        raise UsageError(f"{option} requires type=<type>: there is none in {text!r}")
    if cache_type == "registry" and "ref" in values:
        check_reference(values["ref"], f"{option}: invalid reference {values['ref']!r}")
    return CachePlace(cache_type, {**defaults, **values})


def check_reference(text: str, problem: str) -> None:
    """Check the name of an image.

    Args:
        text: The name.
        problem: The beginning of the message, before the reason.

    Raises:
        UsageError: the name is invalid.
    """
    try:
        Reference.parse(text)
    except ImageError as error:
        raise UsageError(f"{problem}: {error}") from error


def parse_ssh(texts: Sequence[str], environ: Mapping[str, str], *, needs_agent: bool) -> list[SSHAgent]:
    """Parse ``ID[=PATH,...][,raw=true]``, and check that the agents and keys are usable. Blocks.

    Args:
        texts: The values.
        environ: Environment variables.
        needs_agent: Whether an agent is required, even if none was given.

    Raises:
        UsageError: an agent or key is not usable.
    """
    agents: list[SSHAgent] = []
    for text in filter(None, texts or ([DEFAULT_ID] if needs_agent else [])):
        agent = _ssh_agent(text)
        if any(other.id == agent.id for other in agents):
            raise UsageError(f"--ssh {text}: duplicate agent ID {agent.id!r}")
        try:
            open_agent(agent, environ)
        except ExporterError as error:
            raise UsageError(f"--ssh {text}: {error.message}") from error
        agents.append(agent)
    return agents


def _ssh_agent(text: str) -> SSHAgent:
    name, _, rest = text.partition("=")
    paths, is_raw = [], False
    for field in filter(None, rest.split(",")):
        key, equals, value = field.partition("=")
        if key != "raw" or not equals:
            paths.append(field)
            continue
        try:
            is_raw = parse_bool(value)
        except ImageError:
            raise UsageError(f"--ssh {text}: invalid value for 'raw': {value}: write true or false") from None
    return SSHAgent(name or DEFAULT_ID, paths, is_raw)


def parse_privileges(texts: Iterable[str]) -> list[str]:
    """Parse ``--allow``. ``buildx.local.delete`` is ignored, since this needs no permission here.

    Raises:
        UsageError: an entitlement is unknown.
    """
    privileges = []
    for text in filter(None, texts):
        name = text.partition("=")[0]
        if text not in _PRIVILEGES and name != _DEVICE and text != _LOCAL_DELETE:
            known = ", ".join([*_PRIVILEGES, _DEVICE])
            raise UsageError(f"--allow: unknown entitlement {text}: the entitlements are {known}")
        if text != _LOCAL_DELETE:
            privileges.append(text)
    return privileges


def _fields(text: str, option: str) -> dict[str, str]:
    try:
        fields = split_fields(text)
    except InvalidArgumentError as error:
        raise UsageError(f"invalid value for {option}: {error} in {text!r}") from None
    values = {}
    for field in fields:
        key, equals, value = field.partition("=")
        if not equals:
            raise UsageError(f"invalid value for {option}: field {field!r} must be a key=value pair")
        values[lower(key)] = value
    return values
