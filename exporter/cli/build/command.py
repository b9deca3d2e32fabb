"""The command ``build``."""

from __future__ import annotations

import os
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from exporter.cli.build.attests import annotation_attrs
from exporter.cli.build.call import Call
from exporter.cli.build.inputs import Inputs, open_inputs
from exporter.cli.build.limits import HOST_GATEWAY
from exporter.cli.build.outputs import BuildOutput, Deliveries, Wishes, plan_engine_outputs, plan_outputs
from exporter.cli.client import ServerAccess, connect, explained
from exporter.cli.commands.build import BuildArgs
from exporter.cli.destinations import check_directory, check_file
from exporter.cli.export.delivery import check_engines
from exporter.cli.failures import ExitCode, UsageError
from exporter.cli.image_places import tell_image_places
from exporter.cli.installed import registry_with
from exporter.cli.metadata_file import write_metadata_file
from exporter.cli.registries import registry_options
from exporter.cli.running import run_async
from exporter.cli.workplace import workplace_config
from exporter.client.client import BuildkitClient
from exporter.client.dockerd import connect_dockerd, is_engine
from exporter.client.dockerd_image import MOBY_EXPORTER, build_and_compute
from exporter.client.failure import SolveError
from exporter.client.options import DOCKERFILE_FRONTEND, Export, OurExport, SolveOptions
from exporter.content.threads import run_in_thread
from exporter.daemon.connection import DEFAULT_ADDRESS
from exporter.daemon.identity import Kind
from exporter.errors import (
    FailedPreconditionError,
    InvalidArgumentError,
    NotFoundError,
    UnavailableError,
    naming,
)
from exporter.image.keys import IMAGE_CONFIG_DIGEST, IMAGE_DIGEST
from exporter.progress.display import ProgressMode, Renderer, display, open_renderer
from exporter.progress.model import StatusSink
from exporter.remotes.docker_engine import EngineAddress, find_engine
from exporter.rpc.session.call import session_dialer

DOCKER = "docker"
"""The value instead of an address that means the engine which docker itself would use."""

_BUILDKIT_HOST = "BUILDKIT_HOST"
_HOW_TO_REACH = (
    "Name another one with --addr or $BUILDKIT_HOST; --addr docker means the BuildKit of a Docker engine."
)
_NO_OUTPUT = (
    "warning: no output specified: the result stays in the daemon's build cache. --push pushes an image to a "
    "registry, --load loads it into Docker, --output does anything else"
)
_HOSTS = "add-hosts"
_RESOLVE_MODE = "image-resolve-mode"
_SNAPSHOTTER_LABEL = "org.mobyproject.buildkit.worker.snapshotter"
"""A worker's label that only an engine which stores images in containerd has."""

_GATEWAY_LABEL = "org.mobyproject.buildkit.worker.moby.host-gateway-ip"


@dataclass(frozen=True, slots=True)
class Daemon:
    """A daemon, and the engine that it is part of, if any."""

    client: BuildkitClient
    engine: EngineAddress | None = None

    async def exporter_pushes(self) -> bool:
        """Whether its exporter can push. An engine's can do so only if it stores images in containerd."""
        if self.engine is None:
            return True
        return any(_SNAPSHOTTER_LABEL in worker.labels for worker in await self.client.workers())


def run_build(options: BuildArgs) -> int:
    """Build a Dockerfile.

    Raises:
        UsageError: an option is invalid. Nothing has been done yet.
        ExporterError, ImageError, OSError: the build failed.
    """
    if options.builder is not None:
        raise UsageError(
            "--builder: only buildx knows its builders: give the daemon's address with --addr "
            f"(`docker buildx inspect {options.builder}` shows it as Endpoint)"
        )
    if options.quiet and options.progress not in {ProgressMode.AUTO, ProgressMode.QUIET}:
        raise UsageError(f"progress={options.progress} and quiet cannot be used together")
    method = "check" if options.check else options.call
    call = Call.parse(method) if method else None
    try:
        renderer = open_renderer(ProgressMode.QUIET if options.quiet else options.progress, sys.stderr)
    except InvalidArgumentError as error:
        raise UsageError(error.message) from error
    check_file("--metadata-file", options.metadata_file)
    check_file("--iidfile", options.iidfile)
    check_directory("--save-source", options.save_source)
    with open_inputs(options, os.environ) as inputs:
        try:
            run = _build(options, inputs, renderer) if call is None else _ask(call, options, inputs, renderer)
            return run_async(run)
        except SolveError as error:
            for source in error.sources:
                print(source.excerpt(), end="", file=sys.stderr)
            raise


async def _ask(call: Call, options: BuildArgs, inputs: Inputs, renderer: Renderer) -> int:
    async with _reach(options) as daemon:
        async with display(renderer) as sink:
            await _find_gateway(daemon, inputs)
            answer = await call.ask(daemon.client, _solve_options(options, inputs, ()), sink)
        text, status = call.show(answer, inputs.dockerfile)
        print(text, end="")
    if options.metadata_file is not None:
        await run_in_thread(write_metadata_file, options.metadata_file, answer)
    return status


async def _find_gateway(daemon: Daemon, inputs: Inputs) -> None:
    """Replace ``host-gateway`` by the address that it means.

    Raises:
        UsageError: the daemon does not report it.
    """
    hosts = inputs.attrs.get(_HOSTS, "")
    if f"={HOST_GATEWAY}" not in hosts:
        return
    labels = [worker.labels.get(_GATEWAY_LABEL) for worker in await daemon.client.workers()]
    address = next(filter(None, labels), None)
    if address is None:
        raise UsageError(
            f"--add-host: unable to derive the IP value for {HOST_GATEWAY}: the daemon does not tell it: "
            "write the address"
        )
    inputs.attrs[_HOSTS] = hosts.replace(f"={HOST_GATEWAY}", f"={address}")


async def _build(options: BuildArgs, inputs: Inputs, renderer: Renderer) -> int:
    async with AsyncExitStack() as stack:
        daemon = await stack.enter_async_context(_reach(options))
        is_engine, exporter_pushes = daemon.engine is not None, await daemon.exporter_pushes()
        outputs = await run_in_thread(_plan, options, for_engine=is_engine, exporter_pushes=exporter_pushes)
        if is_engine:  # prefer images of its own store, like docker
            inputs.attrs.setdefault(_RESOLVE_MODE, "local")
        await _find_gateway(daemon, inputs)
        await check_engines([item.output for item in outputs])
        backend, workplace = None, None
        if any(item.is_ours for item in outputs):
            from exporter.takeover.local import LocalBackend

            workplace = workplace_config(options)
            opening = LocalBackend.open(workplace, registry_with(options.exporter_module))
            backend = await stack.enter_async_context(opening)
        sink = await stack.enter_async_context(display(renderer))
        deliveries = Deliveries(sink)
        exports = [deliveries.export_of(item, backend) for item in outputs]
        wanted = _solve_options(options, inputs, exports)
        response = await _solve(daemon, wanted, sink, strict=options.strict) | deliveries.response()
        pushes = [name for item in outputs for name in item.pushes]
        if daemon.engine is not None and pushes:
            from exporter.client.engine_push import push_images

            response |= await push_images(daemon.engine, pushes, wanted.registries, response, sink)
    if options.metadata_file is not None:
        await run_in_thread(write_metadata_file, options.metadata_file, response)
    if options.iidfile is not None:
        await run_in_thread(_write_image_id, options.iidfile, response)
    if options.quiet and (image_id := _image_id(response)):
        print(image_id)
    if workplace is not None:
        ours = [item.output for item in outputs if item.is_ours]
        tell_image_places(ours, response, workplace, progress=options.progress)
    return ExitCode.OK


@asynccontextmanager
async def _reach(options: BuildArgs) -> AsyncIterator[Daemon]:
    """Connect to the daemon. If no address was given, errors say how to give one."""
    async with AsyncExitStack() as stack:
        try:
            daemon = await stack.enter_async_context(_connect(options))
        except UnavailableError as error:
            if options.addr or os.environ.get(_BUILDKIT_HOST):
                raise
            raise UnavailableError(f"{error.message}\n{_HOW_TO_REACH}") from error
        yield daemon


@asynccontextmanager
async def _connect(options: BuildArgs) -> AsyncIterator[Daemon]:
    """Connect to the daemon, a buildkitd or an engine."""
    address = options.addr or os.environ.get(_BUILDKIT_HOST) or DEFAULT_ADDRESS
    if address == DOCKER:
        engine = await run_in_thread(find_engine, environ=os.environ)
    else:
        access = ServerAccess.of(replace(options, addr=address))
        found = None if access.uses_tls else EngineAddress.parse(str(access.address))
        async with connect(access) as channel:
            async with explained(channel, access, Kind.BUILDKIT):
                speaks_http_1 = found is not None and await is_engine(found)
            if found is None or not speaks_http_1:
                dial = session_dialer(await access.dialler(), str(access.address))
                client = BuildkitClient(channel, dial)
                async with explained(channel, access, Kind.BUILDKIT):
                    await client.check(str(access.address), access.timeout)
                yield Daemon(client)
                return
        engine = found
    async with connect_dockerd(engine) as client:
        yield Daemon(client, engine)


def _plan(options: BuildArgs, *, for_engine: bool, exporter_pushes: bool) -> list[BuildOutput]:
    registry = registry_with(options.exporter_module)
    try:
        wishes = Wishes(
            texts=options.output,
            tags=options.tag,
            push=options.push,
            load=options.load,
            annotations=annotation_attrs(options.annotation),
        )
        if for_engine:
            if options.take:
                raise UsageError("--take: nothing runs here in builds of a Docker engine")
            return plan_engine_outputs(wishes, registry, exporter_pushes=exporter_pushes)
        taken = frozenset(word for text in options.take for word in text.split(",") if word)
        outputs = plan_outputs(wishes, registry, taken)
    except (InvalidArgumentError, NotFoundError) as error:
        raise error if isinstance(error, UsageError) else UsageError(str(error)) from error
    if options.iidfile is not None and not any(item.makes_image for item in outputs):
        raise UsageError("--iidfile: none of the outputs is an image: there is no ID to write")
    is_silent = options.quiet or options.progress in {ProgressMode.RAWJSON, ProgressMode.QUIET}
    if not outputs and not options.output and not is_silent:
        print(_NO_OUTPUT, file=sys.stderr)
    return outputs


def _solve_options(options: BuildArgs, inputs: Inputs, exports: Sequence[Export | OurExport]) -> SolveOptions:
    return SolveOptions(
        frontend=DOCKERFILE_FRONTEND,
        frontend_attrs=inputs.attrs,
        exports=exports,
        directories=inputs.directories,
        stores=inputs.layouts,
        secrets=inputs.secrets,
        ssh=inputs.ssh,
        registries=registry_options(options),
        cache_imports=inputs.cache_imports,
        cache_exports=inputs.cache_exports,
        entitlements=inputs.privileges,
        strict=options.strict,
        save_source=options.save_source,
        services=inputs.services,
    )


async def _solve(daemon: Daemon, wanted: SolveOptions, sink: StatusSink, *, strict: bool) -> dict[str, str]:
    makes_image = any(export.type == MOBY_EXPORTER for export in wanted.exports)
    if daemon.engine is None or not strict or not makes_image:
        return dict((await daemon.client.solve(wanted, sink)).response)
    from exporter.remotes.docker_engine.engine import DockerEngine

    async with DockerEngine(daemon.engine) as engine:
        image = await build_and_compute(daemon.client, engine, wanted, sink)
    if not image.agrees:
        raise FailedPreconditionError(
            f"the Docker engine's image is {image.id}, but the one computed here is {image.computed_id}"
        )
    return dict(image.response)


def _image_id(response: Mapping[str, str]) -> str:
    return response.get(IMAGE_CONFIG_DIGEST) or response.get(IMAGE_DIGEST, "")


def _write_image_id(path: Path, response: Mapping[str, str]) -> None:
    image_id = _image_id(response)
    if not image_id:
        raise FailedPreconditionError("--iidfile: the build has made no image")
    with naming(path):
        path.write_text(image_id, encoding="ascii")
