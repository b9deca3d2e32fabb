"""What a build reads: contexts, the Dockerfile, and what they make of the frontend's attributes."""

from __future__ import annotations

import re
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from exporter.cli.build.values import build_args, key_values
from exporter.cli.commands.build import BuildArgs
from exporter.cli.failures import UsageError
from exporter.content.layout import OCILayout

_REMOTE = re.compile(r"(https?|git|ssh)://|git@|github\.com/")
_PASSED_ON = re.compile(r"(docker-image|target|https?|git|ssh)://|target:|git@|github\.com/")
_LAYOUT = "oci-layout://"
_STDIN = "-"


@dataclass(slots=True)
class Inputs:
    """What the daemon is offered.

    Attributes:
        attrs: Of the frontend.
        directories: By name.
        layouts: Content stores by name.
    """

    attrs: dict[str, str] = field(default_factory=dict)
    directories: dict[str, Path] = field(default_factory=dict)
    layouts: dict[str, OCILayout] = field(default_factory=dict)


@contextmanager
def open_inputs(options: BuildArgs, environ: Mapping[str, str]) -> Iterator[Inputs]:
    """Find out what a build reads. Blocks.

    Raises:
        UsageError: an option cannot be used.
    """
    inputs = Inputs(_attributes(options, environ))
    with tempfile.TemporaryDirectory(prefix="buildkit-exporter-") as scratch:
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
    if options.no_cache:
        attrs["no-cache"] = ""
    if options.pull:
        attrs["image-resolve-mode"] = "pull"
    if options.network in {"host", "none"}:
        attrs["force-network-mode"] = options.network
    elif options.network not in {None, "default"}:
        raise UsageError(f"--network: {options.network} is neither default, host nor none")
    return attrs


def _add_main_context(inputs: Inputs, options: BuildArgs, scratch: Path) -> None:
    if _REMOTE.match(options.context):
        inputs.attrs["context"] = options.context
        if options.file is not None:
            inputs.attrs["filename"] = options.file
        return
    context = Path(options.context)
    if not context.is_dir():
        problem = "is not a directory" if context.exists() else "does not exist"
        raise UsageError(f"the context {options.context} {problem}")
    inputs.directories["context"] = context
    if options.file == _STDIN:
        dockerfile = scratch / "Dockerfile"
        dockerfile.write_bytes(sys.stdin.buffer.read())
    else:
        dockerfile = Path(options.file) if options.file is not None else context / "Dockerfile"
        if not dockerfile.is_file():
            raise UsageError(f"the Dockerfile {dockerfile} does not exist: name it with --file")
    inputs.directories["dockerfile"] = dockerfile.parent
    inputs.attrs["filename"] = dockerfile.name


def _add_context(inputs: Inputs, name: str, place: str) -> None:
    if place.startswith(_LAYOUT):
        inputs.attrs[f"context:{name}"] = _add_layout(inputs, name, place.removeprefix(_LAYOUT))
    elif _PASSED_ON.match(place):
        inputs.attrs[f"context:{name}"] = place
    elif Path(place).is_dir():
        inputs.attrs[f"context:{name}"] = f"local:{name}"
        inputs.directories[name] = Path(place)
    else:
        raise UsageError(f"--build-context: {name}={place} is neither a directory nor a URL")


def _add_layout(inputs: Inputs, name: str, place: str) -> str:
    path, at, digest = place.partition("@")
    if not at:
        raise UsageError(f"--build-context: {_LAYOUT}{place} has no digest: write {_LAYOUT}PATH@DIGEST")
    store = f"context-{name}"
    inputs.layouts[store] = OCILayout(path, create=False)
    return f"{_LAYOUT}{store}@{digest}"
