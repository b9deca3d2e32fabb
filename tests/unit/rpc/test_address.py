from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.errors import InvalidArgumentError
from exporter.rpc.address import (
    TCPAddress,
    UnixAddress,
    parse_address,
    parse_host_port,
)


@pytest.mark.parametrize(
    ("text", "address", "target"),
    [
        ("unix:///run/x.sock", UnixAddress("/run/x.sock"), "unix:/run/x.sock"),
        ("unix:/run/x.sock", UnixAddress("/run/x.sock"), "unix:/run/x.sock"),
        ("unix:///run/a/../x.sock", UnixAddress("/run/x.sock"), "unix:/run/x.sock"),
        ("unix:///a b%41#?/x", UnixAddress("/a b%41#?/x"), "unix:/a%20b%2541%23%3F/x"),
        ("tcp://127.0.0.1:1234", TCPAddress("127.0.0.1", 1234), "127.0.0.1:1234"),
        ("tcp://Example.COM:1", TCPAddress("example.com", 1), "example.com:1"),
        ("tcp://[::1]:0", TCPAddress("::1", 0), "[::1]:0"),
        ("dns:///refs.local:9", TCPAddress("refs.local", 9), "refs.local:9"),
    ],
)
def test_addresses_as_buildkit_spells_them(text: str, address: object, target: str) -> None:
    parsed = parse_address(text, field="f")
    assert parsed == address
    assert parsed.target == target
    assert parse_address(str(parsed), field="f") == parsed


@pytest.mark.parametrize(
    "text",
    [
        "",
        "unix://",
        "unix:///",
        "unix://run/x.sock",
        "unix:x.sock",
        "unix:////run/x",
        "unix:///run/",
        "unix:///run/\0x",
        "unix:///" + "x" * 120,
        "tcp://",
        "tcp://host",
        "tcp://host:",
        "tcp://:80",
        "tcp://host:70000",
        "tcp://host:1/path",
        "tcp://user@host:1",
        "tcp://host:1?x",
        "tcp://höst:1",
        "tcp:host:1",
        "dns://server/host:1",
        "xds:///x",
        "/run/x.sock",
    ],
)
def test_invalid_addresses_are_rejected_with_the_field(text: str) -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        parse_address(text, field="addresses")
    assert caught.value.field == "addresses"


@given(st.text())
def test_any_text_is_parsed_or_refused(text: str) -> None:
    for parse in (parse_address, parse_host_port):
        try:
            parsed = parse(text, field="f")
        except InvalidArgumentError:
            continue
        assert parse_address(str(parsed), field="f") == parsed
