"""The command ``proxy``."""

from __future__ import annotations

import argparse
import asyncio
import logging
import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial

import grpc.aio

from exporter.bridge.client.connection import open_channel
from exporter.bridge.proxy.backend import Backend
from exporter.bridge.proxy.build import BuildOptions
from exporter.bridge.proxy.plan import Routes
from exporter.bridge.proxy.server import running_switch
from exporter.bridge.proxy.switch import Dial
from exporter.cli.failures import ExitCode, UsageError
from exporter.cli.logs import configure_logging
from exporter.cli.parser import DEFAULT_PROXY_ADDRESS
from exporter.cli.running import run_async
from exporter.cli.workplace import workplace_config
from exporter.errors import InvalidArgumentError, NotFoundError
from exporter.exporters.registry import default_registry
from exporter.server import ServerConfig
from exporter.server.address import Address, UnixAddress, parse_address
from exporter.server.config import PEER_OPTIONS
from exporter.server.lifecycle import PluginServer
from exporter.server.listen import accepting

logger = logging.getLogger(__name__)


def run_proxy(options: argparse.Namespace) -> int:
    """Run the proxy until a signal ends it.

    Raises:
        UsageError: an option's value cannot be used.
        ExporterError, OSError: the proxy cannot listen there, or cannot use its root.
    """
    configure_logging("text", debug=options.debug)
    # It would log every header, credentials included.
    logging.getLogger("hpack").setLevel(logging.WARNING)
    return run_async(_run(options))


async def _run(options: argparse.Namespace) -> int:
    addresses = [_address(text, "--addr") for text in options.addr or [DEFAULT_PROXY_ADDRESS]]
    daemon_address = _address(options.buildkitd, "--buildkitd")
    build_options = BuildOptions(
        strict=options.strict, output_dir=options.output_dir, source_dir=options.save_source
    )
    async with AsyncExitStack() as stack:
        local = await stack.enter_async_context(local_backend(options))
        remote = {
            exporter_type: await stack.enter_async_context(_remote_backend(address))
            for exporter_type, address in _exporters(options.exporter).items()
        }
        routes = Routes(
            local=local,
            local_types=frozenset(default_registry().types),
            remote=remote,
            taken=frozenset(word for text in options.take for word in text.split(",") if word),
        )
        try:
            routes.check()
        except NotFoundError as error:
            raise UsageError(f"--take: {error.message}") from error
        daemon = await stack.enter_async_context(open_channel(options.buildkitd))
        switch = await stack.enter_async_context(
            running_switch(_dialler(daemon_address), daemon, options.buildkitd, routes, build_options)
        )
        for address in addresses:
            bound = await stack.enter_async_context(accepting(switch.protocol, address, None, insecure=False))
            logger.info("listening on %s for clients of %s", bound, options.buildkitd)
        await asyncio.Event().wait()
    return ExitCode.OK


def _dialler(address: Address) -> Dial:
    loop = asyncio.get_running_loop()
    if isinstance(address, UnixAddress):
        return partial(loop.create_unix_connection, path=address.path)
    return partial(loop.create_connection, host=address.host, port=address.port)


@asynccontextmanager
async def local_backend(options: argparse.Namespace) -> AsyncIterator[Backend]:
    """Run a plugin server that nobody else can reach.

    Raises:
        UsageError, ExporterError, OSError: what it is to work with cannot be used.
    """
    with tempfile.TemporaryDirectory(prefix="buildkit-exporter-") as directory:
        address = f"unix://{directory}/exporter.sock"
        config = ServerConfig(addresses=(address,), workplace=workplace_config(options))
        async with (
            PluginServer.running(config),
            _remote_backend(parse_address(address, field="addr")) as backend,
        ):
            yield backend


@asynccontextmanager
async def _remote_backend(address: Address) -> AsyncIterator[Backend]:
    async with grpc.aio.insecure_channel(address.target, PEER_OPTIONS) as channel:
        yield Backend(channel, str(address))


def _exporters(texts: list[str]) -> Mapping[str, Address]:
    found = {}
    for text in texts:
        exporter_type, equals, address = text.partition("=")
        if not exporter_type or not equals:
            raise UsageError(f"--exporter: {text!r}: write TYPE=ADDRESS")
        found[exporter_type] = _address(address, "--exporter")
    return found


def _address(text: str, option: str) -> Address:
    try:
        return parse_address(text, field="addr")
    except InvalidArgumentError as error:
        raise UsageError(f"{option}: {error.message}") from error
