"""``--exporter-module`` of servers, and what a plugin does to a server that runs it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.integration.fakedaemon.harness import Daemon, Server
from tests.integration.fakedaemon.requests import export_request

pytestmark = pytest.mark.timeout(120)

PLUGIN = """\
import asyncio
import sys

from exporter import ArtifactKind, BlockingExporter, Exporter, ExportResult


class Asynchronous(Exporter):
    type, title, name, artifact = "asynchronous", "A", "exporting", ArtifactKind.NONE

    async def export(self, source, context):
        print("hello")
        how = self.attrs.get("how")
        if how == "exit":
            sys.exit(3)
        if how == "task":
            await asyncio.gather(self.leave())
        if how == "recurse":
            await self.export(source, context)
        return ExportResult(response={"done": "yes"})

    async def leave(self):
        sys.exit(4)


class Blocking(BlockingExporter):
    type, title, name, artifact = "blocking", "B", "exporting", ArtifactKind.NONE

    def export(self, source, context):
        print("hello")
        how = self.attrs.get("how")
        if how == "exit":
            sys.exit(3)
        if how == "recurse":
            return self.export(source, context)
        return ExportResult(response={"done": "yes"})
"""


@pytest.fixture
async def daemon(tmp_path: Path) -> AsyncIterator[Daemon]:
    (tmp_path / "plugin.py").write_text(PLUGIN)
    async with (
        Server.running("--exporter-module", str(tmp_path / "plugin.py")) as server,
        Daemon.connected(server.address) as connected,
    ):
        yield connected


async def test_the_server_survives_plugins_that_exit(daemon: Daemon, tmp_path: Path) -> None:
    for exporter_type, how, text in (
        ("asynchronous", "exit", "SystemExit: 3"),
        ("asynchronous", "task", "TaskExitError: a task raised SystemExit: 4"),
        ("asynchronous", "recurse", "RecursionError: "),
        ("blocking", "exit", "SystemExit: 3"),
        ("blocking", "recurse", "RecursionError: "),
    ):
        outcome = await daemon.export(export_request(exporter_type, attrs={"how": how}))
        assert outcome.code == "INTERNAL"
        assert f'the exporter "{exporter_type}" of {tmp_path}/plugin.py has failed: {text}' in outcome.message
        outcome = await daemon.export(export_request(exporter_type))
        assert outcome.code == "OK", outcome.message
        assert outcome.result is not None
        assert dict(outcome.result.response) == {"done": "yes"}
