"""Where registries are."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest
from yarl import URL

from exporter.errors import InvalidArgumentError
from exporter.remotes.registry import RegistryOptions
from exporter.remotes.registry.endpoint import endpoints, is_loopback, proxy_for, tls_context
from exporter.remotes.registry.options import RegistryHost
from tests.certificates import make_certificates


@pytest.mark.parametrize(
    ("host", "insecure", "expected"),
    [
        ("docker.io", False, ["https://registry-1.docker.io"]),
        ("registry.example", False, ["https://registry.example"]),
        ("registry.example:5000", False, ["https://registry.example:5000"]),
        ("registry.example:5000", True, ["https://registry.example:5000", "http://registry.example:5000"]),
        ("localhost", False, ["http://localhost"]),
        ("localhost:5000", False, ["http://localhost:5000"]),
        ("127.9.9.9:5000", False, ["http://127.9.9.9:5000"]),
        ("[::1]:5000", False, ["http://[::1]:5000"]),
        ("localhost:5000", True, ["https://localhost:5000", "http://localhost:5000"]),
        ("[2001:db8::1]:5000", False, ["https://[2001:db8::1]:5000"]),
        ("127.0.0.1.example", False, ["https://127.0.0.1.example"]),
    ],
)
def test_addresses(tmp_path: Path, host: str, insecure: bool, expected: list[str]) -> None:
    found = endpoints(host, RegistryOptions(certs_dir=tmp_path), insecure=insecure)
    assert [str(url) for url in found] == expected


def test_certificates_for_this_machine_mean_https(tmp_path: Path) -> None:
    (tmp_path / "localhost:5000").mkdir()
    options = RegistryOptions(certs_dir=tmp_path)
    assert endpoints("localhost:5000", options, insecure=False) == [URL("https://localhost:5000")]
    assert endpoints("localhost:5001", options, insecure=False) == [URL("http://localhost:5001")]


@pytest.mark.parametrize("host", ["registry.example:99999", "a:b"])
def test_invalid_addresses(tmp_path: Path, host: str) -> None:
    with pytest.raises(InvalidArgumentError, match=f"{host} is not the address"):
        endpoints(host, RegistryOptions(certs_dir=tmp_path), insecure=False)


def test_this_machine() -> None:
    assert is_loopback("LOCALHOST:5000")
    assert not is_loopback("10.0.0.1")


def test_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    assert proxy_for(URL("https://registry.example")) is None
    monkeypatch.setenv("HTTPS_PROXY", "http://jo:pw@proxy.example:3128")
    monkeypatch.setenv("http_proxy", "proxy.example:8080")
    monkeypatch.setenv("NO_PROXY", "inner.example")
    assert proxy_for(URL("https://registry.example")) == URL("http://jo:pw@proxy.example:3128")
    assert proxy_for(URL("http://registry.example")) == URL("http://proxy.example:8080")
    assert proxy_for(URL("https://a.inner.example")) is None
    assert proxy_for(URL("http://localhost:5000")) is None


def test_hosts_of_a_daemon(tmp_path: Path) -> None:
    hosts = {
        "plain.example": RegistryHost(plain_http=True),
        "insecure.example": RegistryHost(insecure=True),
        "operator.example": RegistryHost(plain_http=True),
    }
    (tmp_path / "operator.example").mkdir()
    options = RegistryOptions(certs_dir=tmp_path, hosts=hosts)

    def schemes(host: str) -> list[str]:
        return [url.scheme for url in endpoints(host, options, insecure=False)]

    assert schemes("plain.example") == ["http"]
    assert schemes("insecure.example") == ["https", "http"]
    assert schemes("operator.example") == ["https"], "the operator's certificates have precedence"
    assert schemes("other.example") == ["https"]
    assert tls_context("insecure.example", options, insecure=False).verify_mode is ssl.CERT_NONE
    assert tls_context("plain.example", options, insecure=False).verify_mode is ssl.CERT_REQUIRED


def test_ca_certificates_of_a_daemon(tmp_path: Path) -> None:
    make_certificates(tmp_path)
    pem = (tmp_path / "ca.pem").read_text("ascii")

    def context(text: str) -> ssl.SSLContext:
        host = RegistryHost(ca_certificates=(text,))
        options = RegistryOptions(certs_dir=tmp_path / "none", hosts={"r.example": host})
        return tls_context("r.example", options, insecure=False)

    before = len(tls_context("r.example", RegistryOptions(), insecure=False).get_ca_certs())
    assert len(context(pem).get_ca_certs()) == before + 1
    with pytest.raises(InvalidArgumentError, match="r.example cannot be used") as caught:
        context("nonsense")
    assert caught.value.field == "build.registries[r.example].ca_certificates"
