"""The inputs of a build: contexts, the Dockerfile, and the frontend's attributes for them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from exporter.cli.build.attests import attestation_attrs
from exporter.cli.build.limits import extra_hosts, resources, size_in_bytes, ulimits
from exporter.cli.build.standard_input import StandardInput
from exporter.cli.build.values import (
    build_args,
    check_reference,
    key_values,
    parse_cache,
    parse_privileges,
    parse_secret,
    parse_ssh,
)
from exporter.cli.commands.build import BuildArgs
from exporter.cli.failures import UsageError
from exporter.client.options import CachePlace
from exporter.content.layout import OCILayout
from exporter.daemon.services.secrets import Secret
from exporter.daemon.services.upload import UploadServicer
from exporter.daemon.ssh.agents import SSHAgent
from exporter.image import ImageError
from exporter.image.reference import Reference
from exporter.rpc.session.attach import Attachable
from exporter.rpc.temporary import private_directory

_REMOTE = re.compile(r"(https?|git|ssh)://|git@|github\.com/")
_PASSED_ON = re.compile(r"(docker-image|target|https?|git|ssh)://|target:|git@|github\.com/")
_LAYOUT = "oci-layout://"
_STDIN = "-"
_CONTEXT, _DOCKERFILE = "context", "dockerfile"


@dataclass(slots=True)
class Inputs:
    """The inputs that the daemon is offered.

    Attributes:
        attrs: The frontend's attributes.
        directories: The directories by name.
        layouts: The content stores by name.
        secrets: The secrets for steps.
        ssh: The SSH agents for steps.
        privileges: The entitlements for steps.
        cache_imports: Where to import cache from.
        cache_exports: Where to export cache to.
        services: Additional services of the session.
        dockerfile: The user's name for the Dockerfile.
    """

    attrs: dict[str, str] = field(default_factory=dict)
    directories: dict[str, Path] = field(default_factory=dict)
    layouts: dict[str, OCILayout] = field(default_factory=dict)
    secrets: list[Secret] = field(default_factory=list)
    ssh: list[SSHAgent] = field(default_factory=list)
    privileges: list[str] = field(default_factory=list)
    cache_imports: list[CachePlace] = field(default_factory=list)
    cache_exports: list[CachePlace] = field(default_factory=list)
    services: list[Attachable] = field(default_factory=list)
    dockerfile: str = "Dockerfile"


@contextmanager
def open_inputs(options: BuildArgs, environ: Mapping[str, str]) -> Iterator[Inputs]:
    """Determine the inputs of a build. Blocks.

    Raises:
        UsageError: an option is invalid.
    """
    for tag in options.tag:
        check_reference(tag, f"--tag: invalid tag {tag!r}")
    inputs = Inputs(
        _attributes(options, environ),
        secrets=[parse_secret(text, environ) for text in options.secret],
        ssh=parse_ssh(options.ssh, environ, needs_agent=_is_git_over_ssh(options.context)),
        privileges=parse_privileges(options.allow),
        cache_imports=[parse_cache(text, "--cache-from", {}) for text in options.cache_from],
        cache_exports=[parse_cache(text, "--cache-to", {"mode": "min"}) for text in options.cache_to],
    )
    if options.network == "host":  # requesting it implies permission
        inputs.privileges.append("network.host")
    with private_directory() as scratch:
        _add_main_context(inputs, options, Path(scratch))
        for name, place in key_values(options.build_context, "--build-context").items():
            _add_context(inputs, name, place)
        inputs.attrs.update(key_values(options.opt, "--opt"))
        yield inputs


def _attributes(options: BuildArgs, environ: Mapping[str, str]) -> dict[str, str]:
    attrs = {f"build-arg:{name}": value for name, value in build_args(options.build_arg, environ).items()}
    attrs |= {f"label:{key}": value for key, value in key_values(options.label, "--label").items()}
    if options.target is not None:
        attrs["target"] = options.target
    if options.platform:
        attrs["platform"] = ",".join(options.platform)
    if options.no_cache and options.no_cache_filter:
        raise UsageError("--no-cache and --no-cache-filter cannot currently be used together")
    if options.no_cache_filter:
        attrs["no-cache"] = ",".join(options.no_cache_filter)
    if options.no_cache:
        attrs["no-cache"] = ""
    if options.pull:
        attrs["image-resolve-mode"] = "pull"
    if options.network in {"host", "none"}:
        attrs["force-network-mode"] = options.network
    elif options.network not in {None, "default"}:
        raise UsageError(f"--network: {options.network} is neither default, host nor none")
    if hosts := extra_hosts(options.add_host):
        attrs["add-hosts"] = hosts
    if options.shm_size is not None and (size := size_in_bytes(options.shm_size, "--shm-size")):
        attrs["shm-size"] = str(size)
    if limits := ulimits(options.ulimit):
        attrs["ulimit"] = limits
    if options.cgroup_parent:
        attrs["cgroup-parent"] = options.cgroup_parent
    attrs |= attestation_attrs(options.attest, options.provenance, options.sbom)
    return attrs | resources(options.resource)


def _add_main_context(inputs: Inputs, options: BuildArgs, scratch: Path) -> None:
    if options.context == _STDIN:
        _add_standard_input(inputs, options.file, scratch)
    elif _REMOTE.match(options.context):
        inputs.attrs["context"] = options.context
        if options.file == _STDIN:
            _add_dockerfile_text(inputs, StandardInput().read(), scratch)
        elif options.file is not None and Path(options.file).is_absolute():  # it is not in the context
            _add_dockerfile(inputs, Path(options.file))
            inputs.attrs["dockerfilekey"] = _DOCKERFILE
        elif options.file is not None:
            inputs.attrs["filename"] = inputs.dockerfile = options.file
    else:
        _add_directory(inputs, options, scratch)


def _add_directory(inputs: Inputs, options: BuildArgs, scratch: Path) -> None:
    context = Path(options.context)
    if not context.is_dir():
        problem = "is not a directory" if context.exists() else "not found"
        raise UsageError(f"unable to prepare context: path {options.context!r} {problem}")
    inputs.directories[_CONTEXT] = context
    if options.file == _STDIN:
        _add_dockerfile_text(inputs, StandardInput().read(), scratch)
        return
    dockerfile = Path(options.file) if options.file is not None else _default_dockerfile(context)
    if not dockerfile.is_file():
        raise UsageError(_no_dockerfile(dockerfile, context, named=options.file is not None))
    _add_dockerfile(inputs, dockerfile)


def _add_standard_input(inputs: Inputs, file: str | None, scratch: Path) -> None:
    """Use standard input as the context if it is an archive, else as a Dockerfile with an empty context."""
    if file == _STDIN:
        raise UsageError(
            "standard input cannot be both the context and the Dockerfile: name a directory as CONTEXT, or "
            "leave --file out"
        )
    stdin = StandardInput()
    if stdin.is_archive():
        upload = UploadServicer()
        inputs.services.append(upload.register)
        inputs.attrs["context"] = upload.add(stdin.stream())
        inputs.attrs["filename"] = inputs.dockerfile = file or "Dockerfile"
        return
    if file is not None:
        raise UsageError(
            "ambiguous Dockerfile source: standard input is not a tar archive, so it is a Dockerfile, but "
            f"--file names {file}: leave one of them out"
        )
    text = stdin.read()
    if not text:
        raise UsageError("standard input is empty: it has to be a Dockerfile, or a context as a tar archive")
    empty = scratch / "empty"
    empty.mkdir()
    inputs.directories[_CONTEXT] = empty
    _add_dockerfile_text(inputs, text, scratch)


def _add_dockerfile_text(inputs: Inputs, text: bytes, scratch: Path) -> None:
    directory = scratch / _DOCKERFILE
    directory.mkdir()
    path = directory / "Dockerfile"
    path.write_bytes(text)
    _add_dockerfile(inputs, path)
    inputs.attrs["dockerfilekey"] = _DOCKERFILE
    inputs.dockerfile = "stdin"


def _add_dockerfile(inputs: Inputs, path: Path) -> None:
    if not path.is_file():
        raise UsageError(f"failed to read dockerfile: open {path}: no such file or directory")
    inputs.directories[_DOCKERFILE] = path.parent
    inputs.attrs["filename"] = path.name
    inputs.dockerfile = str(path)


def _default_dockerfile(context: Path) -> Path:
    """``Dockerfile``, or ``dockerfile`` if only that exists."""
    usual, lower = context / "Dockerfile", context / "dockerfile"
    return lower if not usual.exists() and lower.exists() else usual


def _no_dockerfile(path: Path, context: Path, *, named: bool) -> str:
    problem = "is a directory" if path.is_dir() else "no such file or directory"
    text = f"failed to read dockerfile: open {path}: {problem}"
    if not named:
        return f"{text}: name the Dockerfile with --file"
    if (context / path).is_file():
        return (
            f"{text}: --file is relative to the working directory, not to the context: did you mean "
            f"{context / path}?"
        )
    return text


def _is_git_over_ssh(context: str) -> bool:
    return context.startswith(("ssh://", "git@"))


def _add_context(inputs: Inputs, name: str, place: str) -> None:
    name = _context_name(name)
    if place.startswith(_LAYOUT):
        inputs.attrs[f"context:{name}"] = _add_layout(inputs, place.removeprefix(_LAYOUT))
    elif _PASSED_ON.match(place):
        inputs.attrs[f"context:{name}"] = place
    elif Path(place).is_dir():
        inputs.attrs[f"context:{name}"] = f"local:{name}"
        inputs.directories[name] = Path(place)
    else:
        raise UsageError(f"--build-context: {name}={place} is neither a directory nor a URL")


def _context_name(name: str) -> str:
    """The name by which the daemon looks for a context: Docker's short form, as it may replace an image."""
    try:
        return Reference.parse(name).familiar_string.removesuffix(":latest")
    except ImageError:
        return name


def _add_layout(inputs: Inputs, place: str) -> str:
    path, at, digest = place.partition("@")
    if not at:
        raise UsageError(f"--build-context: {_LAYOUT}{place} has no digest: write {_LAYOUT}PATH@DIGEST")
    store = f"context-{len(inputs.layouts)}"  # the daemon parses it as part of a reference
    inputs.layouts[store] = OCILayout(path, create=False)
    return f"{_LAYOUT}{store}@{digest}"
