from __future__ import annotations

import asyncio
import socket
from typing import Any

import pytest

from exporter.errors import InvalidArgumentError, PermissionDeniedError
from exporter.rpc.address import parse_address
from exporter.rpc.allowed import AddressPattern, allowed_target


@pytest.mark.parametrize(
    ("pattern", "address", "allowed"),
    [
        ("unix:///run/*.sock", "unix:///run/a.sock", True),
        ("unix:///run/*.sock", "unix:///run/b/a.sock", False),
        ("unix:///run/*.sock", "unix:///run/../etc/a.sock", False),
        ("unix:///run/*/refs.sock", "unix:///run/b/refs.sock", True),
        ("unix:///run/*", "tcp://run:1", False),
        ("tcp://10.0.0.?:*", "tcp://10.0.0.5:77", True),
        ("tcp://10.0.0.?:*", "tcp://10.0.0.55:77", False),
        ("tcp://10.0.0.*:*", "tcp://10.0.0.55:77", True),
        ("tcp://10.0.0.*:*", "tcp://[::ffff:10.0.0.55]:77", True),
        ("tcp://10.0.0.*:*", "tcp://10.0.0.1.attacker.net:77", False),
        ("tcp://10.0.0.*:*", "tcp://10.0.0.attacker:77", False),
        ("tcp://10.0.0.*:*", "tcp://10.0.0.5x:77", False),
        ("tcp://10.0.0.0/24:*", "tcp://10.0.0.55:77", True),
        ("tcp://10.0.0.0/24:*", "tcp://10.0.1.55:77", False),
        ("tcp://10.0.0.0/24:*", "tcp://[::ffff:10.0.0.55]:77", True),
        ("tcp://10.0.0.0/24:*", "tcp://10.0.0.1.attacker.net:77", False),
        ("tcp://10.0.0.0/24:7?", "tcp://10.0.0.55:177", False),
        ("tcp://[fd00::/8]:*", "tcp://[fd12::1]:77", True),
        ("tcp://[fd00::/8]:*", "tcp://[fe80::1]:77", False),
        ("tcp://fd00::/8:*", "tcp://[fd12::1]:77", True),
        ("tcp://*.example.com:443", "tcp://a.example.com:443", True),
        ("tcp://*.example.com:443", "tcp://a.example.com.:443", True),
        ("tcp://*.example.com:443", "tcp://a.b.example.com:443", False),
        ("tcp://*.example.com:443", "tcp://example.com:443", False),
        ("tcp://*.Example.com:443", "dns:///A.example.com:443", True),
        ("tcp://*.example.com:443", "tcp://a.example.com:444", False),
        ("tcp://*.*.*.com:443", "tcp://10.0.0.1:443", False),
        ("tcp://*.*:443", "tcp://10.0.0.1:443", False),
        ("tcp://*.*.*.*:443", "tcp://10.0.0.1:443", True),
        ("tcp://*.*.*.*:443", "tcp://a.b.c.d:443", False),
        ("tcp://*:443", "tcp://evil:4443", False),
        ("tcp://*:443", "tcp://any.host.example:443", True),
        ("tcp://*:443", "tcp://10.0.0.1:443", True),
        ("tcp://[::1]:*", "tcp://[::1]:5", True),
    ],
)
def test_patterns_match_part_by_part(pattern: str, address: str, allowed: bool) -> None:
    parsed = AddressPattern.parse(pattern, field="f")
    assert parsed.matches(parse_address(address, field="f")) is allowed


@pytest.mark.parametrize(
    "pattern",
    ["", "*", "tcp://*", "unix:*", "tcp://host:", "http://x:1", "tcp://10.0.0.1/24:*", "tcp://10.0.*/24:*"],
)
def test_patterns_without_form_are_refused(pattern: str) -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        AddressPattern.parse(pattern, field="allow_endpoints")
    assert caught.value.field == "allow_endpoints"


class Resolver:
    """Names that resolve to other addresses on each lookup."""

    def __init__(self, *answers: str) -> None:
        self.answers = list(answers)
        self.asked: list[str] = []

    async def __call__(self, host: str, port: int, **options: Any) -> list[Any]:
        self.asked.append(host)
        address = self.answers.pop(0)
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        return [(family, socket.SOCK_STREAM, 0, "", (address, port))]


async def target(resolver: Resolver, monkeypatch: pytest.MonkeyPatch, address: str, *patterns: str) -> str:
    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", resolver)
    allowed = [AddressPattern.parse(pattern, field="f") for pattern in patterns]
    return await allowed_target(parse_address(address, field="f"), allowed, field="f")


async def test_names_are_looked_up_once_and_what_was_found_is_dialled(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    resolver = Resolver("192.0.2.7", "127.0.0.1")
    found = await target(resolver, monkeypatch, "tcp://a.example.com:5", "tcp://*.example.com:*")
    assert found == "ipv4:192.0.2.7:5"
    assert resolver.asked == ["a.example.com"]
    found = await target(Resolver("fd00::7"), monkeypatch, "tcp://a.example.com:5", "tcp://*.example.com:*")
    assert found == "ipv6:[fd00::7]:5"


async def test_addresses_are_not_looked_up(monkeypatch: pytest.MonkeyPatch) -> None:
    resolver = Resolver()
    assert await target(resolver, monkeypatch, "tcp://10.0.0.1:5", "tcp://10.0.0.*:*") == "10.0.0.1:5"
    assert await target(resolver, monkeypatch, "unix:///run/x", "unix:///run/*") == "unix:/run/x"
    assert resolver.asked == []


@pytest.mark.parametrize("local", ["127.0.0.1", "169.254.169.254", "::1", "0.0.0.0", "::ffff:127.0.0.1"])
async def test_a_wildcard_does_not_allow_this_machine(local: str, monkeypatch: pytest.MonkeyPatch) -> None:
    name = "tcp://a.example.com:5"
    with pytest.raises(PermissionDeniedError) as caught:
        await target(Resolver(local), monkeypatch, name, "tcp://*.example.com:*")
    assert caught.value.field == "f"
    # The operator's own words are another matter.
    for more in ("tcp://a.example.com:*", "tcp://*:5"):
        assert await target(Resolver(local), monkeypatch, name, "tcp://*.example.com:*", more)
