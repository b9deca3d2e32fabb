"""Where the Docker engine is."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
from yarl import URL

from exporter.errors import InvalidArgumentError, NotFoundError
from exporter.remotes.docker_engine import EngineAddress, find_engine
from exporter.remotes.docker_engine.address import TLSFiles


def socket(path: str) -> EngineAddress:
    return EngineAddress(socket=Path(path))


def add_context(
    config: Path, name: str, host: object, *, skip_verify: bool = False, tls: bool = False
) -> None:
    directory = hashlib.sha256(name.encode()).hexdigest()
    meta = config / "contexts" / "meta" / directory / "meta.json"
    meta.parent.mkdir(parents=True)
    endpoint = {"Host": host, "SkipTLSVerify": skip_verify}
    meta.write_text(json.dumps({"Name": name, "Metadata": {}, "Endpoints": {"docker": endpoint}}))
    if tls:
        files = config / "contexts" / "tls" / directory / "docker"
        files.mkdir(parents=True)
        (files / "ca.pem").touch()


@pytest.mark.parametrize(
    ("host", "address"),
    [
        ("unix:///run/docker.sock", socket("/run/docker.sock")),
        ("tcp://engine.example:1234", EngineAddress(url=URL("http://engine.example:1234"))),
        ("tcp://engine.example", EngineAddress(url=URL("http://engine.example:2375"))),
        ("http://engine.example:1234/prefix/", EngineAddress(url=URL("http://engine.example:1234/prefix"))),
        ("https://engine.example", EngineAddress(url=URL("https://engine.example:2376"))),
        ("tcp://[::1]:1234", EngineAddress(url=URL("http://[::1]:1234"))),
    ],
)
def test_addresses(host: str, address: EngineAddress) -> None:
    assert EngineAddress.parse(host) == address


@pytest.mark.parametrize(
    ("host", "text"),
    [
        ("ssh://jo@engine.example", "SSH is not supported; forward"),
        ("npipe:////./pipe/docker", "use unix:// or tcp://"),
        ("fd://", "use unix:// or tcp://"),
        ("unix://", "use unix:// or tcp://"),
        ("tcp:", "use unix:// or tcp://"),
        ("engine.example:1234", "use unix:// or tcp://"),
        ("tcp://engine.example:x", "port"),
        ("tcp://", "[Hh]ost"),
    ],
)
def test_invalid_addresses(host: str, text: str) -> None:
    with pytest.raises(InvalidArgumentError, match=text):
        EngineAddress.parse(host)


def test_addresses_have_a_precedence(tmp_path: Path) -> None:
    home = {"HOME": str(tmp_path)}
    config = tmp_path / ".docker"
    config.mkdir()
    assert find_engine(environ=home) == socket("/var/run/docker.sock")
    for name in ("current", "environment", "asked"):
        add_context(config, name, f"unix:///{name}")
    (config / "config.json").write_text(json.dumps({"currentContext": "current"}))
    assert find_engine(environ=home) == socket("/current")
    assert find_engine(environ={**home, "DOCKER_CONTEXT": "environment"}) == socket("/environment")
    assert find_engine("default", environ=home) == socket("/var/run/docker.sock")
    every = {**home, "DOCKER_CONTEXT": "environment", "DOCKER_HOST": "unix:///host"}
    assert find_engine(environ=every) == socket("/host")
    assert find_engine("asked", environ=every) == socket("/asked")
    assert find_engine("default", environ=every) == socket("/host")


def test_another_configuration(tmp_path: Path) -> None:
    add_context(tmp_path, "there", "unix:///there")
    assert find_engine("there", environ={"DOCKER_CONFIG": str(tmp_path)}) == socket("/there")


def test_certificates_of_the_environment(tmp_path: Path) -> None:
    environ = {"HOME": str(tmp_path), "DOCKER_HOST": "tcp://engine.example"}
    url = URL("https://engine.example:2376")
    verified = find_engine(environ={**environ, "DOCKER_TLS_VERIFY": "1"})
    assert verified == EngineAddress(url=url, tls=TLSFiles(tmp_path / ".docker", verify=True))
    unverified = find_engine(environ={**environ, "DOCKER_TLS": "1", "DOCKER_CERT_PATH": "/certs"})
    assert unverified == EngineAddress(url=url, tls=TLSFiles(Path("/certs"), verify=False))


def test_certificates_of_a_context(tmp_path: Path) -> None:
    environ = {"DOCKER_CONFIG": str(tmp_path)}
    add_context(tmp_path, "secure", "tcp://engine.example:1", tls=True, skip_verify=True)
    add_context(tmp_path, "plain", "tcp://engine.example:1")
    secure = find_engine("secure", environ=environ)
    assert secure.url == URL("https://engine.example:1")
    assert secure.tls is not None
    assert not secure.tls.verify
    assert find_engine("plain", environ=environ) == EngineAddress(url=URL("http://engine.example:1"))


def test_contexts_that_cannot_be_used(tmp_path: Path) -> None:
    environ = {"DOCKER_CONFIG": str(tmp_path)}
    with pytest.raises(NotFoundError, match="no docker context 'none'; `docker context ls`"):
        find_engine("none", environ=environ)
    add_context(tmp_path, "odd", 5)
    with pytest.raises(InvalidArgumentError, match="'odd' has no address of a Docker engine"):
        find_engine("odd", environ=environ)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(InvalidArgumentError, match="config.json is not JSON"):
        find_engine(environ=environ)
    (tmp_path / "config.json").write_text("[]")
    with pytest.raises(InvalidArgumentError, match="config.json is not a JSON object"):
        find_engine(environ=environ)


def test_errors_say_where_an_address_comes_from(tmp_path: Path) -> None:
    environ = {"DOCKER_CONFIG": str(tmp_path)}
    with pytest.raises(InvalidArgumentError, match=r"SSH is not supported; .* \(from DOCKER_HOST\)$"):
        find_engine(environ={**environ, "DOCKER_HOST": "ssh://engine.example"})
    add_context(tmp_path, "far", "npipe:////./pipe/docker")
    with pytest.raises(InvalidArgumentError, match=r"npipe.* \(from docker context 'far'\)$"):
        find_engine("far", environ=environ)
    with pytest.raises(
        NotFoundError, match="no docker context 'none', which DOCKER_CONTEXT refers to; `docker"
    ):
        find_engine(environ={**environ, "DOCKER_CONTEXT": "none"})
    (tmp_path / "config.json").write_text('{"currentContext": "gone"}')
    with pytest.raises(NotFoundError, match=r"no docker context 'gone', which \S+/config.json refers to"):
        find_engine(environ=environ)


def test_certificates_that_cannot_be_used(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("nonsense")
    with pytest.raises(InvalidArgumentError, match="certificates for the Docker engine"):
        TLSFiles(tmp_path).context()
