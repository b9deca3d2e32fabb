"""The command ``proxy``."""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass

from exporter.cli.client import ServerAccess, connect
from exporter.cli.commands.proxy import DEFAULT_PROXY_ADDRESS, PeerTLS, ProxyArgs
from exporter.cli.destinations import check_directory
from exporter.cli.failures import ExitCode, UsageError
from exporter.cli.installed import registry_with
from exporter.cli.logs import configure_logging
from exporter.cli.registries import operator_credentials
from exporter.cli.serve import listener_tls, make_socket_directory
from exporter.cli.workplace import workplace_config
from exporter.content.threads import run_in_thread
from exporter.daemon.connection import open_channel
from exporter.engine.workplace import problem_of_store
from exporter.errors import InvalidArgumentError, NotFoundError, UnavailableError
from exporter.proxy.daemon import Daemon
from exporter.proxy.metrics import ProxyMetrics
from exporter.proxy.server import running_switch
from exporter.proxy.switch import Switch
from exporter.remotes.registry import RegistryOptions
from exporter.rpc.activation import ListenAddress, listen_addresses
from exporter.rpc.address import Address, UnixAddress, parse_address
from exporter.rpc.limits import raise_file_limit
from exporter.rpc.listen import accepting
from exporter.server.notify import Supervisor
from exporter.server.signals import queued_signals
from exporter.server.watching import watched
from exporter.takeover.access import OperatorAccess
from exporter.takeover.backend import Backend
from exporter.takeover.build import BuildOptions
from exporter.takeover.local import LocalBackend
from exporter.takeover.plan import Routes
from exporter.takeover.plugin_server import PluginBackend

_CONNECT_SECONDS = 5.0

_OPTIONS = {
    "addresses": "--addr",
    "metrics_address": "--metrics-addr",
    "ready_fd": "--ready-fd",
    "tls": "--tlscert",
}
"""Flags by the field of an error."""

logger = logging.getLogger(__name__)


def run_proxy(options: ProxyArgs) -> int:
    """Run the proxy until SIGTERM or SIGINT.

    After the first signal, it rejects new builds and waits up to ``--shutdown-grace`` seconds for running
    ones. A second signal or the timeout cancels them.

    Raises:
        UsageError: the value of an option is invalid.
        ExporterError, OSError: the proxy cannot listen at an address, or cannot use its root.
    """
    configure_logging(options.log_format, debug=options.debug)
    if not options.addr:
        make_socket_directory(DEFAULT_PROXY_ADDRESS)
    # It would log all headers, including credentials.
    logging.getLogger("hpack").setLevel(logging.WARNING)
    asyncio.run(_run(options))
    return ExitCode.OK


async def _run(options: ProxyArgs) -> None:
    with _flags_named():
        addresses = listen_addresses(options.addr or (DEFAULT_PROXY_ADDRESS,), field="addresses")
        supervisor = Supervisor(options.ready_fd)
    _refuse_itself(options, addresses)
    check_directory("--save-source", options.save_source)
    tls = listener_tls(options)
    with queued_signals() as signals:
        async with _proxy(options) as proxy:
            async with AsyncExitStack() as listeners:
                bound = []
                for address in addresses:
                    listener = accepting(
                        proxy.switch.protocol, address, tls, insecure=options.insecure_listen
                    )
                    with _flags_named():
                        bound.append(await listeners.enter_async_context(listener))
                    logger.info("listening on %s for clients of %s", bound[-1], proxy.daemon)
                supervisor.ready(bound)
                proxy.is_listening = True
                introduction = asyncio.create_task(proxy.daemon.introduce(), name="asking the daemon")
                try:
                    await signals.get()
                finally:
                    introduction.cancel()
            proxy.is_listening = False
            supervisor.stopping(f"waiting for {proxy.switch.solves} running builds")
            await _drain(proxy.switch, options.shutdown_grace, signals)


def _refuse_itself(options: ProxyArgs, addresses: Sequence[ListenAddress]) -> None:
    daemon = str(_address(options.buildkitd, "--buildkitd"))
    if daemon in {str(address) for address in addresses}:
        raise UsageError(f"--buildkitd: {daemon} is the proxy's own address; name the socket of the daemon")


@dataclass(slots=True)
class _Proxy:
    """A running proxy.

    Attributes:
        switch: Serves its clients.
        daemon: The daemon behind it.
        is_listening: Whether it accepts connections.
    """

    switch: Switch
    daemon: Daemon
    is_listening: bool = False

    async def obstacle(self) -> str:
        """Why the proxy is not ready; empty if it is."""
        if not self.is_listening:
            return "the proxy does not accept connections now"
        try:
            await self.daemon.check()
        except UnavailableError as error:
            return error.message
        return ""


@contextmanager
def _flags_named() -> Iterator[None]:
    """Name the flag in an error about its value."""
    try:
        yield
    except InvalidArgumentError as error:
        option = _OPTIONS.get(error.field or "")
        if option is None:
            raise
        raise UsageError(f"{option}: {error.message}") from error


@asynccontextmanager
async def _proxy(options: ProxyArgs) -> AsyncIterator[_Proxy]:
    """Start a proxy that does not listen yet."""
    access = _access(options.buildkitd_tls, _address(options.buildkitd, "--buildkitd"))
    proxies: list[_Proxy] = []

    async def obstacle() -> str:
        return await proxies[0].obstacle() if proxies else "the proxy is starting"

    async with AsyncExitStack() as stack:
        with _flags_named():
            registry = await stack.enter_async_context(watched(options.metrics_addr, obstacle))
        metrics = ProxyMetrics()
        if registry is not None:
            from exporter.proxy.prometheus import PrometheusProxyMetrics  # an extra

            metrics = PrometheusProxyMetrics(registry)
        build_options = BuildOptions(
            strict=options.strict,
            output_dir=options.output_dir,
            source_dir=options.save_source,
            tell_place=True,
            on_end=metrics.ended,
        )
        raise_file_limit()
        workplace, lent = workplace_config(options), operator_credentials(options)
        for problem in await lent.problems() if lent is not None else ():
            logger.warning("%s", problem)
        if problem := await problem_of_store(workplace):
            logger.warning("%s. Until then, only exports that store no image work", problem)
        registry_here = registry_with(options.exporter_module)
        local = await stack.enter_async_context(LocalBackend.open(workplace, registry_here))
        remote = {
            exporter_type: await stack.enter_async_context(
                _remote_backend(_access(options.exporter_tls, address))
            )
            for exporter_type, address in _exporters(options.exporter).items()
        }
        routes = Routes(
            local=local,
            local_types=frozenset(registry_here.types),
            remote=remote,
            taken=frozenset(word for text in options.take for word in text.split(",") if word),
        )
        try:
            routes.check()
        except NotFoundError as error:
            raise UsageError(f"--take: {error.message}") from error
        credentials = await run_in_thread(access.credentials) if access.uses_tls else None
        channel = await stack.enter_async_context(
            open_channel(str(access.address), credentials, server_name=access.name)
        )
        daemon = Daemon(await access.dialler(), await access.endpoint(), channel)
        operator = None
        if lent is not None:
            operator = OperatorAccess(lent, workplace.registries or RegistryOptions())
        running = running_switch(daemon, routes, build_options, metrics, operator)
        switch = await stack.enter_async_context(running)
        proxies.append(_Proxy(switch, daemon))
        yield proxies[0]


async def _drain(switch: Switch, grace: float, signals: asyncio.Queue[signal.Signals]) -> None:
    """Wait for running builds, for up to `grace` seconds or until another signal."""
    logger.info("shutting down: waiting up to %g s for %d running builds", grace, switch.solves)
    drained, hurry = asyncio.create_task(switch.drain()), asyncio.create_task(signals.get())
    try:
        await asyncio.wait((drained, hurry), timeout=grace, return_when=asyncio.FIRST_COMPLETED)
    finally:
        drained.cancel()
        hurry.cancel()


def _access(tls: PeerTLS, address: Address) -> ServerAccess:
    """Describe access to one of the servers that the proxy talks to.

    Args:
        tls: The TLS options for it.
        address: Its address.

    Raises:
        UsageError: the options are invalid.
    """
    if (tls.cert is None) != (tls.key is None):
        raise UsageError(
            f"--{tls.prefix}-tlscert and --{tls.prefix}-tlskey belong together: give both, or neither"
        )
    access = ServerAccess(
        address=address,
        timeout=_CONNECT_SECONDS,
        ca=tls.ca,
        cert=tls.cert,
        key=tls.key,
        name=tls.name,
        prefix=f"--{tls.prefix}-tls",
    )
    if access.uses_tls and isinstance(address, UnixAddress):
        raise UsageError(f"TLS is for servers on TCP, and --{tls.prefix} names a Unix socket")
    return access


@asynccontextmanager
async def _remote_backend(access: ServerAccess) -> AsyncIterator[Backend]:
    async with connect(access) as channel:
        yield PluginBackend(channel, str(access.address), "buildkit-exporter proxy")


def _exporters(texts: Sequence[str]) -> Mapping[str, Address]:
    found = {}
    for text in texts:
        exporter_type, equals, address = text.partition("=")
        if not exporter_type or not equals:
            raise UsageError(f"--exporter: {text!r} is not of the form TYPE=ADDRESS")
        found[exporter_type] = _address(address, "--exporter")
    return found


def _address(text: str, option: str) -> Address:
    try:
        return parse_address(text, field="addr")
    except InvalidArgumentError as error:
        raise UsageError(f"{option}: {error.message}") from error
