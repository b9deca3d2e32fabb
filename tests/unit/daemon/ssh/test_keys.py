"""Our SSH agent: its keys and signatures."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
    load_ssh_public_identity,
)

from exporter.daemon.ssh.keys import KeyRing
from exporter.daemon.ssh.protocol import FAILURE, frame, read_string
from exporter.errors import ExporterError, FailedPreconditionError, InvalidArgumentError

RSA = rsa.generate_private_key(65537, 2048)
KEYS: dict[str, Any] = {
    "ed25519": ed25519.Ed25519PrivateKey.generate(),
    "rsa": RSA,
    "p256": ec.generate_private_key(ec.SECP256R1()),
    "p384": ec.generate_private_key(ec.SECP384R1()),
    "p521": ec.generate_private_key(ec.SECP521R1()),
}


def write(
    path: Path,
    key: Any,
    form: PrivateFormat = PrivateFormat.OpenSSH,
    encryption: KeySerializationEncryption | None = None,
) -> Path:
    path.write_bytes(key.private_bytes(Encoding.PEM, form, encryption or NoEncryption()))
    return path


async def identities(ring: KeyRing) -> list[bytes]:
    answer = await ring.answer(b"\x0b")
    assert answer[0] == 12
    rest, blobs = answer[5:], []
    for _ in range(int.from_bytes(answer[1:5], "big")):
        blob, rest = read_string(rest)
        comment, rest = read_string(rest)
        assert comment == b""
        blobs.append(blob)
    assert not rest
    return blobs


async def signature(ring: KeyRing, blob: bytes, data: bytes, flags: int = 0) -> tuple[bytes, bytes]:
    answer = await ring.answer(b"\x0d" + frame(blob) + frame(data) + flags.to_bytes(4, "big"))
    assert answer[0] == 14, answer
    whole, rest = read_string(answer[1:])
    assert not rest
    name, rest = read_string(whole)
    value, rest = read_string(rest)
    assert not rest
    return name, value


def public_key(blob: bytes) -> Any:
    import base64

    kind, _ = read_string(blob)
    return load_ssh_public_identity(kind + b" " + base64.b64encode(blob))


FORMS = [PrivateFormat.OpenSSH, PrivateFormat.PKCS8, PrivateFormat.TraditionalOpenSSL]


@pytest.mark.parametrize(
    ("kind", "form"),
    [(kind, form) for kind in KEYS for form in FORMS if (kind, form) != ("ed25519", FORMS[2])],
)
async def test_every_form_of_a_key(tmp_path: Path, kind: str, form: PrivateFormat) -> None:
    ring = KeyRing.read([write(tmp_path / "key", KEYS[kind], form)])
    [blob] = await identities(ring)
    assert public_key(blob) == KEYS[kind].public_key()


async def test_ed25519_signs(tmp_path: Path) -> None:
    ring = KeyRing.read([write(tmp_path / "key", KEYS["ed25519"])])
    name, value = await signature(ring, (await identities(ring))[0], b"data")
    assert name == b"ssh-ed25519"
    KEYS["ed25519"].public_key().verify(value, b"data")


@pytest.mark.parametrize(
    ("flags", "name", "algorithm"),
    [
        (0, b"ssh-rsa", hashes.SHA1()),
        (2, b"rsa-sha2-256", hashes.SHA256()),
        (4, b"rsa-sha2-512", hashes.SHA512()),
        (6, b"rsa-sha2-512", hashes.SHA512()),
    ],
)
async def test_rsa_signs_as_the_flags_say(
    tmp_path: Path, flags: int, name: bytes, algorithm: hashes.HashAlgorithm
) -> None:
    ring = KeyRing.read([write(tmp_path / "key", RSA)])
    found, value = await signature(ring, (await identities(ring))[0], b"data", flags)
    assert found == name
    RSA.public_key().verify(value, b"data", padding.PKCS1v15(), algorithm)


@pytest.mark.parametrize(
    ("kind", "name", "algorithm"),
    [
        ("p256", b"ecdsa-sha2-nistp256", hashes.SHA256()),
        ("p384", b"ecdsa-sha2-nistp384", hashes.SHA384()),
        ("p521", b"ecdsa-sha2-nistp521", hashes.SHA512()),
    ],
)
async def test_ecdsa_signs(tmp_path: Path, kind: str, name: bytes, algorithm: hashes.HashAlgorithm) -> None:
    ring = KeyRing.read([write(tmp_path / "key", KEYS[kind])])
    [blob] = await identities(ring)
    for number in range(20):  # numbers with and without their first bit set
        data = b"data %d" % number
        found, value = await signature(ring, blob, data)
        assert found == name
        r, rest = read_string(value)
        s, rest = read_string(rest)
        assert not rest
        for part in (r, s):
            assert part[0] < 0x80
            assert part[0] or part[1] >= 0x80, "a zero byte too many"
        der = encode_dss_signature(int.from_bytes(r, "big"), int.from_bytes(s, "big"))
        KEYS[kind].public_key().verify(der, data, ec.ECDSA(algorithm))


async def test_unknown_keys_are_refused(tmp_path: Path) -> None:
    paths = [write(tmp_path / kind, key) for kind, key in KEYS.items()]
    ring = KeyRing.read([*paths, paths[0]])
    blobs = await identities(ring)
    assert len(blobs) == len(KEYS)
    assert (await signature(ring, blobs[0], b"x"))[0] == b"ssh-ed25519"
    assert await ring.answer(b"\x0d" + frame(b"other") + frame(b"x") + bytes(4)) == FAILURE


@pytest.mark.parametrize("request_", [b"", b"\x0d", b"\x0d\xff\xff\xff\xff", b"\x11", b"\xff"])
async def test_unknown_requests_are_refused(tmp_path: Path, request_: bytes) -> None:
    ring = KeyRing.read([write(tmp_path / "key", RSA)])
    assert await ring.answer(request_) == FAILURE


@pytest.mark.parametrize("form", FORMS)
def test_a_passphrase(tmp_path: Path, form: PrivateFormat) -> None:
    path = tmp_path / "key"
    if form is PrivateFormat.OpenSSH:
        command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "secret", "-f", str(path)]
        try:
            subprocess.run(command, check=True)
        except FileNotFoundError:
            pytest.skip("ssh-keygen is not installed: apt install openssh-client")
    else:
        write(path, RSA, form, BestAvailableEncryption(b"secret"))
    with pytest.raises(InvalidArgumentError) as caught:
        KeyRing.read([path])
    assert caught.value.message == (
        f"failed to parse {path}: this private key is passphrase protected: give it to an SSH agent "
        f"(ssh-add {path}), and name the agent in its place"
    )


def test_files_that_are_not_a_key(tmp_path: Path) -> None:
    empty, public, broken, other = (tmp_path / name for name in ("empty", "key.pub", "broken", "dsa"))
    empty.write_bytes(b"")
    public.write_text("ssh-ed25519 AAAA somebody")
    broken.write_text("-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n-----END OPENSSH PRIVATE KEY-----\n")
    write(other, dsa.generate_private_key(1024), PrivateFormat.PKCS8)
    for path, text in (
        (empty, f"failed to parse {empty}: it is not a private key"),
        (public, f"failed to parse {public}: it is a public key: name the file with the private one"),
        (broken, f"failed to parse {broken}: it is not a private key: "),
        (other, f"{other}: keys of this kind are not supported: take Ed25519, ECDSA or RSA"),
        (tmp_path, f"{tmp_path}: a directory is neither the socket of an agent nor a key"),
    ):
        with pytest.raises(ExporterError) as caught:
            KeyRing.read([path])
        assert caught.value.message.startswith(text)


def test_without_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "key", RSA)
    monkeypatch.setitem(__import__("sys").modules, "cryptography.exceptions", None)
    with pytest.raises(FailedPreconditionError, match=r"pip install 'buildkit-exporter\[ssh\]'"):
        KeyRing.read([path])
