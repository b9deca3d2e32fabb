"""Patching configs: what is written, what is kept, what is refused."""

from __future__ import annotations

import base64
import json

import pytest

from exporter.image import ImageError, LayerMetadata, Platform, Time, buildkit_image, moby_config
from exporter.image.config.patch import attestation_config, default_config, epoch_time

DIFF_ID = "sha256:" + "1" * 64
TIME = Time.parse("2024-05-06T12:34:56.123456789Z")
CHAIN = [LayerMetadata("RUN make", TIME)]
ENTRY = f'{{"created":"{TIME}","created_by":"RUN make","comment":"buildkit.exporter.image.v0"}}'
ROOTFS = f'"rootfs":{{"type":"layers","diff_ids":["{DIFF_ID}"]}}'
LAYER = {
    "mediaType": "application/vnd.oci.image.layer.v1.tar+gzip",
    "digest": "sha256:" + "2" * 64,
    "size": 7,
    "annotations": {"containerd.io/uncompressed": DIFF_ID},
}


def buildkit(config: str, *, epoch: int | None = None, base: str | None = None) -> str:
    made = buildkit_image(
        config.encode(), [LAYER], CHAIN, epoch=epoch, base_config=None if base is None else base.encode()
    )
    return made.config.decode()


def test_layers_history_and_creation_time_are_written() -> None:
    config = moby_config(b'{"os":"linux","architecture":"amd64"}', [DIFF_ID], CHAIN)
    assert config.decode() == (
        f'{{"architecture":"amd64","created":"{TIME}","history":[{ENTRY}],"os":"linux",{ROOTFS}}}'
    )


def test_without_layers() -> None:
    assert moby_config(b"{}", [], None) == (
        b'{"created":null,"history":null,"rootfs":{"type":"layers","diff_ids":null}}'
    )


def test_other_members_stay_as_they_are_spelled() -> None:
    members = [
        '"z" : [ 1.0, 1E+05, "\\/\\u003C<" ]',
        ' "a":{"b": 1, "b":2}',
        '"\\u0062":3',
        '"HISTORY":[]',
        '"\uffff":1',
        '"\U00010000":2',
    ]
    config = moby_config(f"{{{','.join(members)}}}".encode(), [], None)
    assert config.decode() == (
        '{"HISTORY":[],"a":{"b":1,"b":2},"b":3,"created":null,"history":[],'
        '"rootfs":{"type":"layers","diff_ids":null},"z":[1.0,1E+05,"\\/\\u003C\\u003c"],"\uffff":1,"\U00010000":2}'
    )


@pytest.mark.parametrize("created", ["null", '"nonsense"', "[ 5 ]"])
def test_moby_keeps_any_creation_time(created: str) -> None:
    config = moby_config(f'{{"created":{created}}}'.encode(), [DIFF_ID], CHAIN)
    assert json.loads(config)["created"] == json.loads(created)


def test_inline_cache() -> None:
    def member(cache: bytes | None) -> object:
        config = moby_config(b'{"moby.buildkit.cache.v0":"old"}', [], None, cache)
        return json.loads(config)["moby.buildkit.cache.v0"]

    assert member(b"\x00\xff") == base64.b64encode(b"\x00\xff").decode()
    assert member(b"") == ""
    assert member(None) == "old"


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ("null", "null image config"),
        (" ", "failed to unmarshal history from config: unexpected end of JSON input"),
        (
            '{"history":5}',
            "failed to unmarshal history from config: "
            "json: cannot unmarshal number into Go struct field .history of type []v1.History",
        ),
        (
            '{"history":[{"created":"2024-01-01T00:00:00+24:00"}]}',
            "failed to marshal history: json: error calling MarshalJSON for type *time.Time: "
            "timezone hour outside of range [0,23]",
        ),
    ],
)
def test_moby_refuses(config: str, message: str) -> None:
    with pytest.raises(ImageError) as caught:
        moby_config(config.encode(), [DIFF_ID], CHAIN)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ("null", "invalid null image config for export"),
        ("{}", "invalid image config for export: missing os"),
        ('{"os":"linux"}', "invalid image config for export: missing architecture"),
        (
            '{"os":"linux","architecture":"amd64","config":{"env":"A=1"}}',
            "invalid image config for export: "
            "json: cannot unmarshal string into Go struct field Image.config.env of type []string",
        ),
        (
            '{"os":"linux","architecture":"amd64","created":"x"}',
            "invalid image config for export: "
            'parsing time "x" as "2006-01-02T15:04:05Z07:00": cannot parse "x" as "2006"',
        ),
    ],
)
def test_buildkit_refuses(config: str, message: str) -> None:
    with pytest.raises(ImageError) as caught:
        buildkit(config)
    assert str(caught.value) == message


def test_a_malformed_base_config_comes_first() -> None:
    with pytest.raises(ImageError) as caught:
        buildkit("nonsense", base='{"config":{"Healthcheck":{"Interval":"30s"}}}')
    assert str(caught.value) == (
        "failed to unmarshal base image config: json: cannot unmarshal string into Go struct field "
        "DockerOCIImage.config.Healthcheck.Interval of type time.Duration"
    )


IMAGE = '"os":"linux","architecture":"amd64"'
JANUARY, MAY, JUNE = 1704067200, 1714996800, 1717200000


def created_times(config: str) -> list[str]:
    image = json.loads(config)
    return [image["created"], *(entry["created"] for entry in image["history"])]


def test_times_after_the_epoch_are_clamped() -> None:
    first = '{"created":"2024-05-06T12:00:00.000000001Z"}'
    second = '{"created":"2024-05-06T13:00:00+01:00","empty_layer":true}'
    history = f"[{first},{second}]"
    config = f'{{{IMAGE},"created":"2024-05-06T12:00:01Z","history":{history}}}'
    assert created_times(buildkit(config, epoch=MAY)) == [
        "2024-05-06T12:00:00Z",
        "2024-05-06T12:00:00Z",
        "2024-05-06T13:00:00+01:00",
    ]
    assert created_times(buildkit(config, epoch=JUNE)) == [
        "2024-05-06T12:00:01Z",
        "2024-05-06T12:00:00.000000001Z",
        "2024-05-06T13:00:00+01:00",
    ]


@pytest.mark.parametrize(
    ("base_time", "kept"),
    [
        ("2024-05-06T12:00:00.000Z", True),
        ("2024-05-06T12:00:00+00:00", False),
        ("2024-05-06T12:00:01Z", False),
    ],
)
def test_the_base_image_keeps_its_times(base_time: str, kept: bool) -> None:
    shared = '{"created":"2024-05-06T12:00:00Z","created_by":"base"}'
    config = f'{{{IMAGE},"history":[{shared},{{"created":"2024-05-06T12:00:00Z","empty_layer":true}}]}}'
    base = f'{{"history":[{{"created_by":"base","created":"{base_time}","empty_layer":false}}]}}'
    assert created_times(buildkit(config, epoch=JANUARY, base=base)) == [
        "2024-01-01T00:00:00Z",
        "2024-05-06T12:00:00Z" if kept else "2024-01-01T00:00:00Z",
        "2024-01-01T00:00:00Z",
    ]


def test_times_after_the_first_difference_from_the_base_are_clamped() -> None:
    entries = [
        f'{{"created":"2024-05-06T12:00:0{i}Z","created_by":"{i}","empty_layer":true}}' for i in range(3)
    ]
    config = f'{{{IMAGE},"history":[{",".join(entries)}]}}'
    base = f'{{"history":[{entries[0]},{{}},{entries[2]}]}}'
    assert created_times(buildkit(config, epoch=JANUARY, base=base))[1:4] == [
        "2024-05-06T12:00:00Z",
        "2024-01-01T00:00:00Z",
        "2024-01-01T00:00:00Z",
    ]


def test_null_creation_time_counts_as_year_1() -> None:
    config = f'{{{IMAGE},"created":null,"history":[{{"created":"0000-01-01T00:00:00Z"}}]}}'
    assert json.loads(buildkit(config, epoch=-62135596800))["created"] is None
    assert json.loads(buildkit(config, epoch=-62135596801))["created"] == "0000-12-31T23:59:59Z"


def test_epochs_that_cannot_be_written() -> None:
    prefix = "json: error calling MarshalJSON for type *time.Time: year outside of range [0,9999]"
    with pytest.raises(ImageError) as caught:
        buildkit(f'{{{IMAGE},"history":[{{"created":"2024-01-01T00:00:00Z"}}]}}', epoch=-62167219201)
    assert str(caught.value) == f"failed to marshal history: {prefix}"
    entry = '{"created":"2024-01-01T00:00:00Z"}'
    with pytest.raises(ImageError) as caught:
        buildkit(
            f'{{{IMAGE},"created":null,"history":[{entry}]}}',
            epoch=-62167219201,
            base=f'{{"history":[{entry}]}}',
        )
    assert str(caught.value) == f"failed to marshal creation time: {prefix}"
    # Far beyond what can be written, but it gets nowhere.
    assert buildkit(f'{{{IMAGE},"created":null,"history":[{entry}]}}', epoch=2**60)


def test_epochs_wrap_as_in_go() -> None:
    assert epoch_time(9223371974719179007) > epoch_time(0) > epoch_time(9223371974719179008)
    assert epoch_time(-(2**63)).unix == -(2**63)
    with pytest.raises(ImageError, match="9223372036854775808 is outside of int64"):
        epoch_time(2**63)


def test_default_config() -> None:
    linux = Platform(os="linux", architecture="arm", variant="v7")
    written = (
        b'{"architecture":"arm","os":"linux","variant":"v7",'
        b'"config":{"Env":["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],"WorkingDir":"/"},'
        b'"rootfs":{"type":"layers","diff_ids":null}}'
    )
    assert (
        default_config(linux, path_on_windows=True) == default_config(linux, path_on_windows=False) == written
    )
    windows = Platform(os="windows", architecture="amd64", os_version="10.0.20348")
    assert default_config(windows, path_on_windows=False) == (
        b'{"architecture":"amd64","os":"windows","os.version":"10.0.20348",'
        b'"config":{"WorkingDir":"/"},"rootfs":{"type":"layers","diff_ids":null}}'
    )
    assert json.loads(default_config(windows, path_on_windows=True))["config"]["Env"] == [
        "PATH=c:\\Windows\\System32;c:\\Windows;C:\\Windows\\System32\\WindowsPowerShell\\v1.0"
    ]


def test_no_config_means_the_default_for_the_host() -> None:
    host = Platform(os="linux", architecture="aarch64")
    assert json.loads(moby_config(b"", [], None, host=host))["architecture"] == "arm64"
    assert json.loads(buildkit_image(b"", [], None, host=host).config)["architecture"] == "arm64"
    assert json.loads(moby_config(b"", [], None))["config"]["WorkingDir"] == "/"


def test_attestation_config() -> None:
    assert attestation_config(["sha256:<"]) == (
        b'{"architecture":"unknown","os":"unknown","config":{},'
        b'"rootfs":{"type":"layers","diff_ids":["sha256:\\u003c"]}}'
    )
