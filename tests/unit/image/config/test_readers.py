"""The ordinary and the exact reader: what the first one takes, both read alike."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.image import ImageError, LayerMetadata, Time, buildkit_image, image, moby_config
from exporter.image.config.exact import EXACT
from exporter.image.config.ordinary import ORDINARY, NotOrdinaryError
from exporter.image.config.patch import ConfigReader
from tests.conformance.vectors import decode, read_vectors

CHAIN = [LayerMetadata(f"layer {i}", Time.from_unix(1700000000 + i, i)) for i in range(4)]
LAYERS = [{"mediaType": "x", "digest": f"sha256:{i}", "size": i} for i in range(4)]


def outcome(reader: ConfigReader[Any], export: Callable[[], Any]) -> Any:
    """The outcome of an export if every config is read by `reader`, or by the exact one if that fails."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(image, "READERS", (reader, EXACT))
        try:
            return export()
        except ImageError as error:
            return type(error), str(error)


def assert_alike(config: bytes, layers: int, *, epoch: int | None = None, base: bytes | None = None) -> None:
    exports: list[Callable[[], Any]] = [
        lambda: moby_config(config, [f"sha256:{i}" for i in range(layers)], CHAIN),
        lambda: buildkit_image(config, LAYERS[:layers], CHAIN, epoch=epoch, base_config=base).config,
    ]
    for export in exports:
        assert outcome(ORDINARY, export) == outcome(EXACT, export)


# Half of the configs are written as Go writes them; in the others each piece may be odd in one way or other.

USUAL_STRINGS = ['"x"', '"RUN a \\u0026\\u0026 b"', '"<a> & b"', '"\\"\\\\\\n\\u0001"', '"é\u2028"', '"\x7f"']
ODD_STRINGS = ['""', '"\\u0041"', '"\\/"', '"\\ud800"', '"\\ud83d\\ude00"']
ODD_VALUES = ["null", "true", "5", "1.0", "[]", "{}", '["a",null]', "[ ]", '{"a":1,"a":2}', *ODD_STRINGS]
TIMES = ['"2024-01-02T03:04:05Z"', '"2024-01-02T03:04:05.12Z"', '"2024-02-29T23:59:59.999999999Z"']
ODD_TIMES = [
    '"2024-01-02T03:04:05+01:00"',
    '"2024-01-02T03:04:05+00:00"',
    '"2024-01-02T03:04:05.120Z"',
    '"2024-01-02T03:04:05.000Z"',
    '"2024-01-02T3:04:05Z"',
    '"2023-02-29T00:00:00Z"',
]

Members = dict[str, st.SearchStrategy[str]]


def spellings(key: str) -> st.SearchStrategy[str]:
    return st.sampled_from(
        [
            json.dumps(key),
            json.dumps(key.swapcase()),
            "".join(['"', *(f"\\u{ord(character):04x}" for character in key), '"']),
            json.dumps(key.replace("s", "\u017f").replace("k", "\u212a"), ensure_ascii=False),
        ]
    )


@st.composite
def objects(draw: st.DrawFn, members: Members, odd: bool) -> str:
    keys = [key for key in members if draw(st.booleans())]
    if odd and keys:
        keys = draw(st.permutations(keys + draw(st.lists(st.sampled_from(keys), max_size=1))))
    blanks = st.sampled_from(["", "", "", " ", "\n"]) if odd else st.just("")
    parts = []
    for key in keys:
        spelled = draw(spellings(key)) if odd else json.dumps(key)
        value = draw(members[key] | st.sampled_from(ODD_VALUES) if odd else members[key])
        parts.append(f"{draw(blanks)}{spelled}{draw(blanks)}:{draw(blanks)}{value}")
    return "{" + ",".join(parts) + draw(blanks) + "}"


def arrays(items: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.lists(items, max_size=5).map(lambda values: f"[{','.join(values)}]")


def image_members(odd: bool) -> Members:
    string = st.sampled_from([*USUAL_STRINGS, *ODD_STRINGS] if odd else USUAL_STRINGS)
    time = st.sampled_from([*TIMES, *ODD_TIMES] if odd else TIMES)
    config: Members = {
        "User": string,
        "ExposedPorts": st.just('{"80/tcp":{}}'),
        "Env": arrays(string),
        "Labels": objects({"a": string, "b c": string}, odd),
        "Healthcheck": objects({"Test": arrays(string), "Interval": st.sampled_from(["5", "-0"])}, odd),
        "OnBuild": arrays(string),
        "Hostname": string,
    }
    entry: Members = {
        "created": time,
        "created_by": string,
        "author": string,
        "comment": string,
        "empty_layer": st.just("true"),
    }
    return {
        "architecture": st.just('"amd64"'),
        "config": objects(config, odd),
        "created": time,
        "history": arrays(objects(entry, odd)),
        "os": st.just('"linux"'),
        "os.features": arrays(string),
        "rootfs": objects({"type": st.just('"layers"'), "diff_ids": arrays(string)}, odd),
        "variant": string,
        "z": string,
    }


configs = (objects(image_members(False), False) | objects(image_members(True), True)).map(str.encode)


@given(
    configs,
    st.integers(0, 4),
    st.none() | st.sampled_from([0, 1704164645, 2**60, -(2**62)]),
    st.none() | configs,
)
def test_readers_agree(config: bytes, layers: int, epoch: int | None, base: bytes | None) -> None:
    assert_alike(config, layers, epoch=epoch, base=base)
    assert_alike(config, layers, epoch=epoch, base=config)


RECORDED = [
    decode(vector["config_b64"]) or b""
    for vector in read_vectors("visible")
    if 0 < len(vector["config_b64"]) < 4000
]
TOKENS = [
    *(bytes((byte,)) for byte in b'"\\{}[],:0-. \n\x00\x1f\x7f\xff<&'),
    *(
        b"null",
        b"true",
        b'"history":',
        b'"created":',
        b'"os":5',
        b"\\u003c",
        b"\\ud800",
        b"\xe2\x80\xa8",
        b"\xe2\x80",
        b"1.0",
    ),
]


@given(st.sampled_from(RECORDED), st.randoms(use_true_random=False), st.integers(0, 4))
def test_readers_agree_on_mutated_configs(config: bytes, rng: random.Random, layers: int) -> None:
    for _ in range(rng.randint(1, 3)):
        start = rng.randrange(len(config) + 1)
        end = min(start + rng.choice((0, 0, 1, 1, 5, 40)), len(config))
        middle = rng.choice((b"", rng.choice(TOKENS), config[start:end] * 2))
        config = config[:start] + middle + config[end:]
    assert_alike(config, layers, epoch=rng.choice((None, 1683221823)), base=rng.choice((None, config)))


ORDINARY_CONFIG = {
    "architecture": "amd64",
    "config": {"Env": ["A=1"], "Cmd": ["sh", "-c", "a && b"], "Labels": {"a": "<b>"}, "Hostname": "h"},
    "created": "2024-01-02T03:04:05Z",
    "history": [{"created": "2024-01-02T03:04:05.120Z", "created_by": "a && b"}, {"empty_layer": True}],
    "os": "linux",
    "rootfs": {"type": "layers", "diff_ids": ["sha256:1"]},
    "unknown": [1, {"a": None}],
}


@pytest.mark.parametrize("indent", [None, 2])
def test_ordinary_configs_need_no_other_reader(indent: int | None) -> None:
    separators = (",", ":") if indent is None else None
    document = ORDINARY.read(json.dumps(ORDINARY_CONFIG, indent=indent, separators=separators).encode())
    assert [entry.created for entry in document.history or ()] == ["2024-01-02T03:04:05.12Z", None]
    assert ORDINARY.check_image(document) == ("linux", "amd64")


@pytest.mark.parametrize(
    "config",
    [
        b"null",
        b"[]",
        b"{",
        b'{"os":"a","os":"b"}',
        b'{"\\u006fs":"a"}',
        b'{"OS":"a"}',
        '{"hi\u017ftory":[]}'.encode(),
        b'{"history":[{"created_by":"a","created_by":"b"}]}',
        b'{"history":[{"Created_By":"a"}]}',
        b'{"history":[{"created_by":null}]}',
        b'{"history":[null]}',
        b'{"history":[{"comment":"c","author":"a"}]}',
        b'{"history":[{"created":"2024-01-02T03:04:05+00:00"}]}',
        b'{"history":[{"created":"2023-02-29T03:04:05Z"}]}',
        b'{"history":[{"created_by":"\\ud800"}]}',
        b'{"history":[{"created_by":"\xff"}]}',
        b'{"a":' + b"[" * 9999 + b"]" * 9999 + b"}",
    ],
    ids=lambda config: repr(config)[:50],
)
def test_odd_configs_are_left_to_the_exact_reader(config: bytes) -> None:
    with pytest.raises(NotOrdinaryError):
        ORDINARY.read(config)


@pytest.mark.parametrize(
    "members",
    [
        '"config":{"env":[]}',
        '"config":{"Other":1}',
        '"config":5',
        '"created":"2024-01-02T03:04:05+01:00"',
        '"created":5',
        '"rootfs":{"Type":"layers"}',
        '"os.features":"x"',
    ],
)
def test_odd_members_are_left_to_the_exact_reader(members: str) -> None:
    document = ORDINARY.read(f"{{{members}}}".encode())
    with pytest.raises(NotOrdinaryError):
        ORDINARY.check_image(document)


@pytest.mark.parametrize("time", [Time.parse("2024-01-01T00:00:00+00:00"), Time.from_unix(2**50)])
def test_odd_times_are_left_to_the_exact_reader(time: Time) -> None:
    with pytest.raises(NotOrdinaryError):
        ORDINARY.stamp(time)
    chain = [LayerMetadata("x", time)]
    results = [outcome(reader, lambda: moby_config(b"{}", ["a"], chain)) for reader in (ORDINARY, EXACT)]
    assert results[0] == results[1]


def test_long_history_is_read_by_the_fast_reader() -> None:
    entries = [{"created_by": f"RUN step {{{index}}}", "empty_layer": True} for index in range(6000)]
    config = json.dumps({"history": entries}, separators=(",", ":")).encode()
    history = ORDINARY.read(config).history
    assert history is not None
    assert len(history) == 6000


def test_deep_nesting_is_left_to_the_exact_reader() -> None:
    config = b'{"history":[],"x":' + b"[" * 6000 + b"]" * 6000 + b"}"
    with pytest.raises(NotOrdinaryError):
        ORDINARY.read(config)
