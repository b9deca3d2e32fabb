"""Passing sessions through the proxy, frame by frame."""

from __future__ import annotations

from functools import partial

from exporter.daemon.services.receive import EXPORTER_ID
from exporter.errors import Code, UnavailableError
from exporter.proxy.builds import Builds
from exporter.proxy.daemon_calls import DaemonCalls
from exporter.rpc.answering import Answering
from exporter.rpc.http2.calling import Caller
from exporter.rpc.http2.connection import Connection
from exporter.rpc.http2.frames import ErrorCode
from exporter.rpc.http2.grpc import end_with_status, header_values, path_of
from exporter.rpc.http2.headers import CLIENT_HEADER_BYTES, Headers
from exporter.rpc.http2.relay import relay
from exporter.rpc.http2.sockets import Scheduler
from exporter.rpc.http2.stream import Stream
from exporter.rpc.http2.tunnel import Tunnel
from exporter.rpc.limits import MAX_MESSAGE_BYTES
from exporter.rpc.session.manager import SESSION_ID, SESSION_METHOD
from exporter.takeover.build import ProxiedBuild
from exporter.takeover.session_client import FILE_SEND_METHOD, FIND_EXPORTERS_METHOD, SessionClient

_EXPORTER_ID = EXPORTER_ID.encode()
_ADDED_METHODS = (FIND_EXPORTERS_METHOD, FILE_SEND_METHOD)
"""The methods that the proxy announces for every client: a daemon only calls announced ones."""


class SessionSplice:
    """One client's session: two streams, each carrying one end of a connection.

    The daemon opens streams in that connection. They are passed on to the client, except for those about our
    exports.

    Args:
        stream: The stream with which the client attaches.
        headers: The headers of that stream.
        daemon: The connection to the daemon.
        answering: Runs the proxy's handlers.
        calls: Handles calls about our exports.
        scheduler: Flushes connections.
        builds: The builds in progress.
    """

    def __init__(
        self,
        stream: Stream,
        headers: Headers,
        *,
        daemon: Connection,
        answering: Answering,
        calls: DaemonCalls,
        scheduler: Scheduler,
        builds: Builds,
    ) -> None:
        self._scheduler = scheduler
        self._answering = answering
        self._calls = calls
        self._builds = builds
        self._is_over = False
        ids = header_values(headers, SESSION_ID)
        methods = frozenset(method.lower() for method in header_values(headers, SESSION_METHOD))
        self._client = SessionClient(ids[0] if ids else "", methods, self._find_caller)
        self._caller: Caller | None = None
        self._client_stream = stream
        self._daemon_stream = daemon.open_stream(_announcing(headers, methods), end=False)
        self._client_end = Tunnel(stream, scheduler, self._ignore_headers, self._on_client_end)
        self._daemon_end = Tunnel(
            self._daemon_stream, scheduler, self._on_daemon_headers, self._on_daemon_end
        )

    def _on_daemon_headers(self, headers: Headers, end: bool) -> None:
        """Forward to the client that the daemon has accepted, rejected or ended the session."""
        if not end and self._client_end.connection is None:
            self._client_stream.send_headers(headers)
            client = Connection(
                self._client_end,
                self._scheduler,
                is_client=True,
                share=self._client_stream.connection.share,
                max_header_bytes=CLIENT_HEADER_BYTES,
            )
            daemon = Connection(
                self._daemon_end,
                self._scheduler,
                is_client=False,
                share=self._daemon_stream.connection.share,
            )
            client.on_closed = daemon.on_closed = self._on_connection_closed
            daemon.on_stream = self._route
            self._caller = Caller(client)
            self._client_end.connect(client)
            self._daemon_end.connect(daemon)
        else:
            self._client_stream.send_headers(headers, end=end)
            self._finish()

    def _ignore_headers(self, headers: Headers, end: bool) -> None:
        """Ignore headers: clients do not send trailers."""

    def _on_client_end(self, code: int | None) -> None:
        if code is not None:
            self._daemon_stream.reset(code)
            self._finish()
        else:
            self._daemon_stream.send_data(b"", end=True)

    def _on_daemon_end(self, code: int | None) -> None:
        if code is not None:
            self._client_stream.reset(code)
        self._finish()

    def _on_connection_closed(self, error: Exception | None) -> None:
        if not self._is_over:
            self._client_stream.reset(ErrorCode.CANCEL)
            self._daemon_stream.reset(ErrorCode.CANCEL)
            self._finish()

    def _finish(self) -> None:
        if self._is_over:
            return
        self._is_over = True
        for end in (self._client_end, self._daemon_end):
            if end.connection is not None:
                end.connection.close()

    def _find_caller(self) -> Caller:
        if self._caller is None:
            raise UnavailableError("the client's session is not connected yet")
        return self._caller

    def _to_client(self, stream: Stream, headers: Headers, end: bool) -> None:
        assert self._client_end.connection is not None
        relay(stream, headers, self._client_end.connection, end=end)

    def _route(self, stream: Stream, headers: Headers, end: bool) -> None:
        """Route a call of the daemon to its handler."""
        method = path_of(headers)
        build = self._builds.of_session(self._client.session_id) if method in _ADDED_METHODS else None
        if build is not None and method == FILE_SEND_METHOD:
            headers = _with_client_index(headers, build)
        if build is not None and _is_ours(build, method, headers):
            is_question = method == FIND_EXPORTERS_METHOD
            answer = self._calls.find_exporters if is_question else self._calls.send_file
            self._answering.answer(
                stream,
                headers,
                partial(answer, self._client, build),
                end=end,
                max_message_bytes=MAX_MESSAGE_BYTES,
            )
        elif method in _ADDED_METHODS and not self._client.supports(method):
            text = f"method {method} not supported by the client"
            end_with_status(stream, Code.UNIMPLEMENTED, text)
        else:
            self._to_client(stream, headers, end)


def _is_ours(build: ProxiedBuild, method: str, headers: Headers) -> bool:
    if method == FIND_EXPORTERS_METHOD:
        return True
    return any(
        index.isdecimal() and int(index) in build.exports for index in header_values(headers, EXPORTER_ID)
    )


def _with_client_index(headers: Headers, build: ProxiedBuild) -> Headers:
    """Translate the exporter's index to the client's, which does not know the daemon's order."""
    return [
        (key, str(build.client_index(int(value))).encode())
        if key == _EXPORTER_ID and value.isdigit()
        else (key, value)
        for key, value in headers
    ]


def _announcing(headers: Headers, methods: frozenset[str]) -> Headers:
    """Add the proxy's own methods to the client's announcement."""
    added = [method for method in _ADDED_METHODS if method.lower() not in methods]
    return [*headers, *((SESSION_METHOD.encode(), method.encode()) for method in added)]
