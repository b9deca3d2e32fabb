"""The command ``exporters``."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import sys
from collections.abc import Mapping, Sequence

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from exporter.cli.commands.exporters import ExportersArgs
from exporter.cli.descriptions import ExporterDescription, describe
from exporter.cli.failures import ExitCode, UsageError
from exporter.cli.installed import registry_with
from exporter.cli.outputs import client_keys
from exporter.cli.printing import print_tables
from exporter.errors import NotFoundError
from exporter.exporters.base import ArtifactKind, Attribute

_ARTIFACTS: Mapping[ArtifactKind, str] = {
    ArtifactKind.IMAGE: "image",
    ArtifactKind.ARCHIVE: "archive",
    ArtifactKind.FILES: "directory",
    ArtifactKind.NONE: "nothing",
}


_CLIENT_KEYS = "Where it goes: what --output knows besides, and does not pass to the exporter"


def run_exporters(options: ExportersArgs) -> int:
    """List the types, or the attributes of one type.

    Raises:
        UsageError: the type does not exist.
        ExporterError: the call to the server fails.
    """
    if options.addr is None:
        descriptions = _installed(options)
    elif options.exporter_module:
        raise UsageError("--exporter-module is for types of this process and cannot be combined with --addr")
    else:
        descriptions = asyncio.run(_of_server(options))
    if options.type is not None:
        descriptions = [item for item in descriptions if item.type == options.type]
        if not descriptions:
            raise UsageError(_not_found(options))
    if options.json:
        print(json.dumps([_to_dict(item) for item in descriptions], indent=2, ensure_ascii=False))
    elif options.type is None:
        print_tables(_types(descriptions))
    else:
        [description] = descriptions
        print_tables(*_explanation(description))
    return ExitCode.OK


def _installed(options: ExportersArgs) -> list[ExporterDescription]:
    registry = registry_with(options.exporter_module)
    kinds = registry.all()
    for warning in registry.warnings:
        print(f"warning: {warning}", file=sys.stderr)
    return [describe(kind) for kind in kinds]


def _not_found(options: ExportersArgs) -> str:
    """Explain why a type was not found."""
    assert options.type is not None
    if options.addr is None:
        try:
            registry_with(options.exporter_module).get(options.type)
        except NotFoundError as error:
            return error.message
    return f'exporter "{options.type}" could not be found: run without --type for a list'


async def _of_server(options: ExportersArgs) -> list[ExporterDescription]:
    from exporter.cli.client import ServerAccess, connect, list_exporters

    access = ServerAccess.of(options)
    async with connect(access) as channel:
        return await list_exporters(channel, access)


def _types(descriptions: Sequence[ExporterDescription]) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    table.add_column("TYPE", no_wrap=True)
    table.add_column("MAKES", no_wrap=True)
    table.add_column("TITLE")
    for item in descriptions:
        table.add_row(Text(item.type), _ARTIFACTS[item.artifact], Text(item.title))
    return table


def _explanation(description: ExporterDescription) -> list[RenderableType]:
    attributes = _table("ATTRIBUTE", description.attributes)
    parts: list[RenderableType] = [Text(description.title, style="bold"), attributes]
    if keys := client_keys(description):
        parts += [Text(), Text(_CLIENT_KEYS, style="bold"), _table("KEY", keys)]
    return parts


def _table(title: str, attributes: Sequence[Attribute]) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    for column in (title, "KIND", "DEFAULT"):
        table.add_column(column, no_wrap=column == title, overflow="fold")
    table.add_column("MEANING", overflow="fold")
    for attribute in attributes:
        kind = attribute.kind.removeprefix("enum:").replace("|", " | ")
        table.add_row(*map(Text, (attribute.name, kind, attribute.default, attribute.help)))
    return table


def _to_dict(description: ExporterDescription) -> dict[str, object]:
    return {
        "type": description.type,
        "title": description.title,
        "artifact": description.artifact.name.lower(),
        "attributes": [_attribute_to_dict(item) for item in description.attributes],
        "clientKeys": [_attribute_to_dict(item) for item in client_keys(description)],
    }


def _attribute_to_dict(attribute: Attribute) -> dict[str, str]:
    return dataclasses.asdict(attribute)
