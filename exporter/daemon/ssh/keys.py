"""Our own SSH agent, for private keys in files (upstream: ``agent.NewKeyring``).

Signatures follow RFC 8709 (Ed25519), RFC 5656 (ECDSA) and RFC 8332 (RSA with SHA-2; with SHA-1 unless the
peer requests SHA-2).
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast

from exporter.content.threads import run_in_thread
from exporter.daemon.ssh.protocol import (
    FAILURE,
    IDENTITIES_ANSWER,
    REQUEST_IDENTITIES,
    SIGN_REQUEST,
    SIGN_RESPONSE,
    frame,
    read_string,
)
from exporter.errors import FailedPreconditionError, InvalidArgumentError, PermissionDeniedError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric import ec, rsa

MAX_KEY_BYTES = 100 * 1024
"""The maximum size that is read of a key file, as in BuildKit's clients."""

RSA_SHA2_256 = 2
RSA_SHA2_512 = 4

Sign = Callable[[bytes, int], tuple[str, bytes]]
"""Signs data with the request's flags; returns the signature's format and the signature."""


class _PublicKey(Protocol):
    def public_bytes(self, encoding: Any, format: Any) -> bytes: ...


@dataclass(frozen=True, slots=True)
class _Key:
    blob: bytes
    sign: Sign

    @classmethod
    def of(cls, public: _PublicKey, sign: Sign) -> _Key:
        from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

        line = public.public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH)
        return cls(base64.b64decode(line.split()[1]), sign)


class KeyRing:
    """An agent with keys in memory."""

    def __init__(self, keys: Mapping[bytes, _Key]) -> None:
        self._keys = dict(keys)

    @classmethod
    def read(cls, paths: Iterable[Path]) -> KeyRing:
        """Read private keys. Blocks.

        Raises:
            FailedPreconditionError: the required package is not installed.
            InvalidArgumentError: a file does not contain a supported key.
            PermissionDeniedError: a file is not readable.
        """
        keys = [_read(path) for path in paths]
        return cls({key.blob: key for key in keys})

    async def answer(self, request: bytes) -> bytes:
        """See `exporter.daemon.ssh.protocol.Agent.answer`. Unsupported requests get a failure response."""
        try:
            if request[:1] == bytes([REQUEST_IDENTITIES]):
                return self._identities()
            if request[:1] == bytes([SIGN_REQUEST]):
                return await run_in_thread(self._signature, request[1:])
        except ValueError:
            pass
        return FAILURE

    async def close(self) -> None:
        """See `exporter.daemon.ssh.protocol.Agent.close`."""

    def _identities(self) -> bytes:
        # Comments are omitted, because builds do not need the names of files.
        keys = b"".join(frame(blob) + frame(b"") for blob in self._keys)
        return bytes([IDENTITIES_ANSWER]) + len(self._keys).to_bytes(4, "big") + keys

    def _signature(self, request: bytes) -> bytes:
        blob, rest = read_string(request)
        data, rest = read_string(rest)
        key = self._keys.get(blob)
        if key is None:
            return FAILURE
        name, signature = key.sign(data, int.from_bytes(rest[:4], "big"))
        return bytes([SIGN_RESPONSE]) + frame(frame(name.encode()) + frame(signature))


def _read(path: Path) -> _Key:
    try:
        from cryptography.exceptions import UnsupportedAlgorithm
        from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
    except ImportError as error:
        raise FailedPreconditionError(
            f"{path}: private keys in files need a package that is not installed: pip install "
            "'buildkit-exporter[ssh]', or give the key to an SSH agent (ssh-add)"
        ) from error
    try:
        key = _parse(path, _data_of(path))
    except (ValueError, UnsupportedAlgorithm) as error:
        raise InvalidArgumentError(f"failed to parse {path}: it is not a private key: {error}") from error
    match key:
        case ed25519.Ed25519PrivateKey():
            return _Key.of(key.public_key(), lambda data, _: ("ssh-ed25519", key.sign(data)))
        case rsa.RSAPrivateKey():
            return _Key.of(key.public_key(), lambda data, flags: _sign_rsa(key, data, flags))
        case ec.EllipticCurvePrivateKey() if key.curve.name in _CURVES:
            return _Key.of(key.public_key(), lambda data, _: _sign_ecdsa(key, data))
    raise InvalidArgumentError(f"{path}: keys of this kind are not supported: take Ed25519, ECDSA or RSA")


def _data_of(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(MAX_KEY_BYTES)
    except PermissionError as error:
        raise PermissionDeniedError(f"{path}: permission denied") from error
    except IsADirectoryError as error:
        raise InvalidArgumentError(
            f"{path}: a directory is neither the socket of an agent nor a key"
        ) from error


def _parse(path: Path, data: bytes) -> object:
    from cryptography.hazmat.primitives.serialization import load_pem_private_key, load_ssh_private_key

    if b"PRIVATE KEY-----" not in data:
        if data.startswith((b"ssh-", b"ecdsa-", b"sk-")):
            raise InvalidArgumentError(
                f"failed to parse {path}: it is a public key: name the file with the private one"
            )
        raise InvalidArgumentError(f"failed to parse {path}: it is not a private key")
    load = load_ssh_private_key if b"BEGIN OPENSSH PRIVATE KEY" in data else load_pem_private_key
    try:
        return load(data, password=None)
    except TypeError as error:
        raise _protected(path) from error
    except ValueError as error:
        if "password" in str(error).lower():
            raise _protected(path) from error
        raise


def _protected(path: Path) -> InvalidArgumentError:
    return InvalidArgumentError(
        f"failed to parse {path}: this private key is passphrase protected: give it to an SSH agent "
        f"(ssh-add {path}), and name the agent in its place"
    )


_CURVES = {"secp256r1": ("nistp256", 256), "secp384r1": ("nistp384", 384), "secp521r1": ("nistp521", 512)}
"""By curve: its name in SSH, and the size of the hash in bits (RFC 5656, section 6.2.1)."""


def _sign_rsa(key: rsa.RSAPrivateKey, data: bytes, flags: int) -> tuple[str, bytes]:
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import padding

    name, algorithm = "ssh-rsa", cast(hashes.HashAlgorithm, hashes.SHA1())
    if flags & RSA_SHA2_512:
        name, algorithm = "rsa-sha2-512", hashes.SHA512()
    elif flags & RSA_SHA2_256:
        name, algorithm = "rsa-sha2-256", hashes.SHA256()
    return name, key.sign(data, padding.PKCS1v15(), algorithm)


def _sign_ecdsa(key: ec.EllipticCurvePrivateKey, data: bytes) -> tuple[str, bytes]:
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric.ec import ECDSA
    from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

    curve, bits = _CURVES[key.curve.name]
    algorithms = {256: hashes.SHA256(), 384: hashes.SHA384(), 512: hashes.SHA512()}
    r, s = decode_dss_signature(key.sign(data, ECDSA(algorithms[bits])))
    return f"ecdsa-sha2-{curve}", frame(_mpint(r)) + frame(_mpint(s))


def _mpint(number: int) -> bytes:
    """Encode a positive number, with a zero byte if the first bit would be set (RFC 4251, section 5)."""
    return number.to_bytes(number.bit_length() // 8 + 1, "big")
