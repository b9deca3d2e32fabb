"""Values of options of ``build``, read as buildctl and buildx read theirs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from exporter.cli.csvvalue import split_fields
from exporter.cli.failures import UsageError
from exporter.client import CachePlace, Secret
from exporter.errors import InvalidArgumentError
from exporter.image.go.text import lower

_EPOCH = "SOURCE_DATE_EPOCH"


def key_values(texts: Iterable[str], option: str) -> dict[str, str]:
    """Read ``KEY=VALUE``.

    Raises:
        UsageError: there is no ``=``.
    """
    pairs = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not key or not equals:
            raise UsageError(f"invalid value for {option}: {text!r}: write KEY=VALUE")
        pairs[key] = value
    return pairs


def build_args(texts: Iterable[str], environ: Mapping[str, str]) -> dict[str, str]:
    """Read build arguments. One without a value has that of the environment, or is left out.

    ``SOURCE_DATE_EPOCH`` of the environment counts without being named, as with BuildKit's own clients.
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
    """Read ``id=ID[,src=FILE|,env=NAME]``; as in buildctl, a mere ID names a variable or else a file.

    Raises:
        UsageError: it is malformed, or the file is missing.
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
        raise UsageError(f"invalid value for --secret: {text!r} has no id")
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
        raise UsageError(f"invalid value for --secret: {secret.file} does not exist")
    return secret


def parse_cache(text: str, option: str, defaults: Mapping[str, str]) -> CachePlace:
    """Read ``type=TYPE,KEY=VALUE...``; a mere name is a place in a registry.

    Args:
        text: The value.
        option: The option's name.
        defaults: Attributes that it has if it does not say otherwise.

    Raises:
        UsageError: it is malformed.
    """
    if "type=" not in text:
        return CachePlace("registry", {**defaults, "ref": text})
    values = _fields(text, option)
    cache_type = values.pop("type", "")
    if not cache_type:
        raise UsageError(f"{option} requires type=<type>: there is none in {text!r}")
    return CachePlace(cache_type, {**defaults, **values})


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
