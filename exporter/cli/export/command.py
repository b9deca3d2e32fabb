"""The command ``export``."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack

from exporter.cli.commands.export import ExportArgs
from exporter.cli.destinations import check_file
from exporter.cli.export.delivery import check_engines
from exporter.cli.export.places import Place, here, on_server
from exporter.cli.failures import ExitCode, UsageError
from exporter.cli.image_places import tell_image_places
from exporter.cli.installed import registry_with
from exporter.cli.metadata_file import write_metadata_file
from exporter.cli.outputs import Output, OutputOption, attributes_of, check_destinations, place_output
from exporter.cli.registries import registry_options
from exporter.cli.running import run_async
from exporter.cli.workplace import refuse_workplace_options, workplace_config
from exporter.content.threads import run_in_thread
from exporter.engine.config import WorkplaceConfig
from exporter.errors import ImageError, InvalidArgumentError, NotFoundError
from exporter.image.keys import FRONTEND_PREFIX
from exporter.progress.display import Renderer, display, open_renderer
from exporter.progress.model import StatusSink
from exporter.source.saved.load import SavedSource


def run_export(options: ExportArgs) -> int:
    """Export a saved source to all outputs.

    Raises:
        UsageError: an option is invalid. Nothing has been done yet.
        ExporterError, ImageError, OSError: an export failed.
    """
    outputs = [OutputOption.parse(text) for text in options.output]
    try:
        renderer = open_renderer(options.progress, sys.stderr, phase="Exporting")
    except InvalidArgumentError as error:
        raise UsageError(error.message) from error
    check_file("--metadata-file", options.metadata_file)
    workplace = None
    if options.addr is None:
        workplace = workplace_config(options)
    else:
        refuse_workplace_options(options)
    return run_async(_export(options, outputs, renderer, workplace))


async def _export(
    options: ExportArgs,
    requested: Sequence[OutputOption],
    renderer: Renderer,
    workplace: WorkplaceConfig | None,
) -> int:
    saved = await SavedSource.open(options.source)
    async with _place(options, workplace) as place:
        outputs = await _resolve(place, requested)
        async with display(renderer) as sink:
            response = await export_all(place, saved, outputs, sink)
    response.update(
        (key, value.decode("utf-8", "replace"))
        for key, value in saved.source.metadata.items()
        if key.startswith(FRONTEND_PREFIX)
    )
    if options.metadata_file is not None:
        await run_in_thread(write_metadata_file, options.metadata_file, response)
    tell_image_places(outputs, response, workplace or options.addr or "", progress=options.progress)
    return ExitCode.OK


def _place(options: ExportArgs, workplace: WorkplaceConfig | None) -> AbstractAsyncContextManager[Place]:
    if workplace is not None:
        return here(registry_with(options.exporter_module), workplace)
    from exporter.cli.client import ServerAccess  # imports gRPC, which local exports do not need

    return on_server(ServerAccess.of(options), registry_options(options))


async def _resolve(place: Place, requested: Sequence[OutputOption]) -> list[Output]:
    """Resolve all outputs before any of them starts."""
    try:
        kinds = [await place.describe(option.type) for option in requested]
        is_terminal = sys.stdout.isatty()
        outputs = [
            place_output(option, kind, stdout_is_terminal=is_terminal)
            for option, kind in zip(requested, kinds, strict=True)
        ]
        check_destinations(outputs)
        await check_engines(outputs)
        for index, output in enumerate(outputs):
            with attributes_of(output):
                await place.backend.resolve(index, output.type, output.attrs)
    except (ImageError, InvalidArgumentError, NotFoundError) as error:
        raise error if isinstance(error, UsageError) else UsageError(str(error)) from error
    return outputs


async def export_all(
    place: Place, saved: SavedSource, outputs: Sequence[Output], sink: StatusSink
) -> dict[str, str]:
    """Create all artifacts in order, and then publish them, like BuildKit.

    Returns:
        The merged responses. If a key occurs more than once, the last output's value wins.
    """
    response: dict[str, str] = {}
    tokens: list[str] = []
    async with AsyncExitStack() as unpublished:
        for index, output in enumerate(outputs):
            async with place.deliver(index, output, sink) as delivery:
                exported = await place.backend.export(
                    index,
                    output.type,
                    output.attrs,
                    source=saved.source,
                    build=saved.build,
                    destination=delivery.destination,
                    access=place.access,
                    sink=sink,
                )
                if exported.token:
                    tokens.append(exported.token)
                    unpublished.push_async_callback(place.backend.discard, exported.token)
                await delivery.commit(exported)
            response.update({**exported.response, **delivery.response})
        for token in tokens:
            response.update(await place.backend.finalize(token, sink))
    return response
