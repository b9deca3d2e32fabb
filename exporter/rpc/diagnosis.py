"""Explaining why a server cannot be reached, with advice.

gRPC describes failed connections in terms of its internals ("Socket closed", "Unwrap failed"). So after a
failure, we probe the server step by step: is there a socket, does it speak TLS, does it speak HTTP/2?
"""

from __future__ import annotations

import asyncio
import errno
import os
import pwd
import socket
import ssl
import stat
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from exporter.rpc.address import Address, TCPAddress, UnixAddress
from exporter.rpc.http2.frames import HEADER_SIZE, PREFACE, FrameType, parse_header, settings_frame

PATIENCE = 3.0
"""The timeout of each step in seconds."""

_TLS_RECORDS = (b"\x15\x03", b"\x16\x03")
_HTTP_1 = b"HTTP/"
_ANSWER_BYTES = 2048

# Numbers of OpenSSL (X509_V_ERR_*).
_NOT_YET_VALID = 9
_EXPIRED = 10
_OTHER_NAME = {62, 64}


@dataclass(frozen=True, slots=True)
class Endpoint:
    """How to connect to a server.

    Attributes:
        address: The address.
        tls: The TLS context; None for plain connections.
        server_name: The name that its certificate must have; the host of the address if None.
        shows_certificate: Whether `tls` has a client certificate.
        options: The prefix of the flags for TLS.
    """

    address: Address
    tls: ssl.SSLContext | None = None
    server_name: str | None = None
    shows_certificate: bool = False
    options: str = "--tls"

    def option(self, name: str) -> str:
        """The name of an option, such as ``--tlscacert``."""
        return f"{self.options}{name}"


async def why_unreachable(endpoint: Endpoint) -> str | None:
    """Find out why a server is not reachable; None if it accepts an HTTP/2 connection."""
    return await asyncio.to_thread(_try, endpoint)


def connection_failure(error: BaseException, endpoint: Endpoint) -> str:
    """Explain an `OSError` or timeout of connecting or of a TLS handshake."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return _certificate(error, endpoint)
    if isinstance(error, ssl.SSLError):
        return _handshake(error, endpoint)
    if isinstance(error, TimeoutError):
        return "it does not answer: is the address right, and does a firewall let it pass?"
    if isinstance(error, socket.gaierror):
        assert isinstance(endpoint.address, TCPAddress)
        return f"the host {endpoint.address.host} is not known: {error.strerror}"
    if isinstance(endpoint.address, UnixAddress) and isinstance(error, OSError):
        return _unix(error, endpoint.address.path)
    if isinstance(error, ConnectionRefusedError):
        return "nothing listens there: is it running?"
    if isinstance(error, ConnectionError) and endpoint.tls is not None:
        return f"it ends the connection during the TLS handshake ({_text(error)})"
    return _text(error)


def _unix(error: OSError, path: str) -> str:
    if isinstance(error, FileNotFoundError):
        return "there is no such socket: is it running, and does it listen there?"
    if isinstance(error, NotADirectoryError):
        return "there is no such socket: a part of its path is not a directory"
    try:
        status = Path(path).stat()
    except OSError:
        status = None
    if status is not None and not stat.S_ISSOCK(status.st_mode):
        return "that is not a socket"
    if isinstance(error, ConnectionRefusedError):
        return "nothing listens there any more, the socket was left behind: is it running?"
    if isinstance(error, PermissionError):
        owner = "another user"
        if status is not None:
            with suppress(KeyError):
                owner = pwd.getpwuid(status.st_uid).pw_name
        return f"permission denied: the socket belongs to {owner}; run as a user who may use it"
    if error.errno == errno.EPROTOTYPE:
        return "the socket is not one for streams"
    return _text(error)


def _text(error: BaseException) -> str:
    number = getattr(error, "errno", None)
    if isinstance(number, int) and number > 0 and not isinstance(error, ssl.SSLError):
        return os.strerror(number)
    return str(error) or type(error).__name__


def _certificate(error: ssl.SSLCertVerificationError, endpoint: Endpoint) -> str:
    match error.verify_code:
        case code if code in _OTHER_NAME:
            assert isinstance(endpoint.address, TCPAddress)
            name = endpoint.server_name or endpoint.address.host
            return (
                f"its certificate is not for {name}; if it is the right server, give the name that its "
                f"certificate has with {endpoint.option('servername')}"
            )
        case code if code == _EXPIRED:
            return "its certificate has expired: renew it there, or look at this machine's clock"
        case code if code == _NOT_YET_VALID:
            return "its certificate is not valid yet: look at the clocks of both machines"
    return (
        f"its certificate is not trusted ({error.verify_message}): give the certificate of the authority "
        f"that signed it with {endpoint.option('cacert')}"
    )


def _handshake(error: ssl.SSLError, endpoint: Endpoint) -> str:
    reason = error.reason or ""
    if reason in {"WRONG_VERSION_NUMBER", "HTTP_REQUEST", "RECORD_LAYER_FAILURE"}:
        return f"it does not speak TLS: leave the options {endpoint.options}* out"
    if "CERTIFICATE_REQUIRED" in reason or reason in {
        "SSLV3_ALERT_HANDSHAKE_FAILURE",
        "SSLV3_ALERT_BAD_CERTIFICATE",
        "TLSV1_ALERT_UNKNOWN_CA",
        "SSLV3_ALERT_CERTIFICATE_UNKNOWN",
    }:
        return _client_certificate(endpoint, refused="REQUIRED" not in reason)
    return f"no TLS with it: {reason.lower().replace('_', ' ') or error}"


def _client_certificate(endpoint: Endpoint, *, refused: bool) -> str:
    if refused and endpoint.shows_certificate:
        return f"it does not accept the certificate that {endpoint.option('cert')} names"
    return (
        f"it asks clients for a certificate: give one with {endpoint.option('cert')}, and its key with "
        f"{endpoint.option('key')}"
    )


def _try(endpoint: Endpoint) -> str | None:
    try:
        with _connect(endpoint.address) as plain:
            if endpoint.tls is None:
                return _greet(plain, endpoint)
            name = endpoint.server_name
            if name is None and isinstance(endpoint.address, TCPAddress):
                name = endpoint.address.host
            with endpoint.tls.wrap_socket(plain, server_hostname=name) as connection:
                return _greet(connection, endpoint)
    except OSError as error:  # time-outs and TLS's errors are some
        return connection_failure(error, endpoint)


def _connect(address: Address) -> socket.socket:
    if isinstance(address, TCPAddress):
        return socket.create_connection((address.host, address.port), timeout=PATIENCE)
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        connection.settimeout(PATIENCE)
        connection.connect(address.path)
    except BaseException:
        connection.close()
        raise
    return connection


def _greet(connection: socket.socket, endpoint: Endpoint) -> str | None:
    """Send the greeting of an HTTP/2 client, and check the response."""
    try:
        connection.sendall(PREFACE + settings_frame({}))
        answer = connection.recv(_ANSWER_BYTES)
    except ConnectionError:
        answer = b""
    except TimeoutError:
        return "it takes the connection and says nothing: it is not a gRPC server, or it is stuck"
    if len(answer) >= HEADER_SIZE and parse_header(answer, 0)[1] == FrameType.SETTINGS:
        return None
    if endpoint.tls is None and (
        answer.startswith(_TLS_RECORDS)
        or b"HTTPS server" in answer
        or (not answer and _speaks_tls(endpoint.address))
    ):
        return (
            f"it speaks TLS: give {endpoint.option('cacert')}, the certificate of the authority that signed "
            "the server's"
        )
    if answer.startswith(_HTTP_1) or answer.lstrip()[:1] == b"<":  # HTML, as in HTTP/0.9
        return "it speaks HTTP/1, not gRPC" if endpoint.tls is not None else _http_1(endpoint.address)
    if not answer and endpoint.tls is not None and not endpoint.shows_certificate:
        reason = _client_certificate(endpoint, refused=False)
        return f"it ends the connection once TLS is set up: probably {reason}"
    if not answer:
        return "it ends the connection at once: it is not a gRPC server, or it is shutting down"
    return "it does not speak HTTP/2: it is not a gRPC server"


def _speaks_tls(address: Address) -> bool:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    try:
        with _connect(address) as plain, context.wrap_socket(plain):
            return True
    except ssl.SSLError as error:
        return "ALERT" in (error.reason or "")  # an alert is an answer in TLS
    except OSError:
        return False


def _http_1(address: Address) -> str:
    """Ask an HTTP server what it is, since few say so in response to an HTTP/2 greeting."""
    answer = b""
    with suppress(OSError), _connect(address) as connection:
        connection.sendall(b"GET /_ping HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        answer = connection.recv(_ANSWER_BYTES)
    software = ""
    for line in answer.partition(b"\r\n\r\n")[0].split(b"\r\n")[1:]:
        name, _, value = line.partition(b":")
        if name.strip().lower() == b"server":
            text = value.decode("utf-8", "replace").strip()[:100]
            software = "".join(character for character in text if character.isprintable())
    if software.startswith("Docker/"):
        return f"it is a Docker engine ({software}), which speaks HTTP/1 and not gRPC"
    return "it speaks HTTP/1, not gRPC" + (f" (it says that it is {software})" if software else "")
