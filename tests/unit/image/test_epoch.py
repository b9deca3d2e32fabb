from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.image.epoch import Epoch, epoch_from_build_args, epoch_source, export_epoch, take_epoch
from exporter.image.keys import MetadataValueError
from exporter.image.options.attributes import AttributeValueError

KEY = "source.date.epoch"
OWN = "source.date.epoch/linux/arm64"


@pytest.mark.parametrize(
    ("attrs", "epoch"),
    [
        ({}, None),
        ({"source-date-epoch": ""}, Epoch(None)),
        ({"source-date-epoch": "0"}, Epoch(0)),
        ({"source-date-epoch": "-1"}, Epoch(-1)),
        ({"source-date-epoch": "+1700000000"}, Epoch(1_700_000_000)),
    ],
)
def test_attribute(attrs: dict[str, str], epoch: Epoch | None) -> None:
    assert take_epoch({**attrs, "name": "a"}) == (epoch, {"name": "a"})


def test_bad_attribute() -> None:
    with pytest.raises(AttributeValueError) as error:
        take_epoch({"source-date-epoch": "1.5"})
    cause = 'strconv.ParseInt: parsing "1.5": invalid syntax'
    assert str(error.value) == f"invalid source-date-epoch: {cause}: {cause}"
    assert error.value.field == "attrs[source-date-epoch]"


@pytest.mark.parametrize(
    ("metadata", "platform_id", "epoch"),
    [
        ({}, None, None),
        ({KEY: b"5"}, None, 5),
        ({KEY: b"5"}, "linux/arm64", 5),
        ({KEY: b"5", OWN: b"7"}, "linux/arm64", 7),
        ({KEY: b"5", OWN: b"7"}, "linux/amd64", 5),
        ({KEY: b"5", OWN: b""}, "linux/arm64", None),
        ({OWN: b"7"}, None, None),
        ({KEY: b"bad", OWN: b"7"}, "linux/arm64", 7),
    ],
)
def test_frontend(metadata: dict[str, bytes], platform_id: str | None, epoch: int | None) -> None:
    assert epoch_source(metadata, platform_id) == epoch


def test_bad_value_of_the_frontend() -> None:
    with pytest.raises(MetadataValueError) as error:
        epoch_source({OWN: b"\xff1"}, "linux/arm64")
    cause = r'strconv.ParseInt: parsing "\xff1": invalid syntax'
    assert (
        str(error.value) == rf'invalid SOURCE_DATE_EPOCH from frontend: "\xff1": invalid : {cause}: {cause}'
    )
    assert error.value.field == f"source.metadata[{OWN}]"


@pytest.mark.parametrize(
    ("given_epoch", "metadata", "epoch"),
    [
        (Epoch(3), {KEY: b"5", OWN: b"7"}, 3),
        (Epoch(None), {KEY: b"5", OWN: b"7"}, None),
        (Epoch(3), {KEY: b"bad"}, 3),
        (None, {KEY: b"5", OWN: b"7"}, 5),
        (None, {OWN: b"7"}, 7),
        (None, {KEY: b"", OWN: b"7"}, 7),
        (None, {}, None),
    ],
)
def test_the_epoch_of_an_export(
    given_epoch: Epoch | None, metadata: dict[str, bytes], epoch: int | None
) -> None:
    assert export_epoch(given_epoch, metadata, "linux/arm64") == epoch


@pytest.mark.parametrize(("value", "passed_on"), [("1700000000", True), ("", True), ("context", False)])
def test_build_argument(value: str, passed_on: bool) -> None:
    attrs = {"build-arg:SOURCE_DATE_EPOCH": value}
    assert epoch_from_build_args(attrs) == (value if passed_on else None)


def test_no_build_argument() -> None:
    assert epoch_from_build_args({"build-arg:X": "1"}) is None


@given(st.binary())
def test_any_bytes_are_read_or_refused(value: bytes) -> None:
    try:
        epoch = epoch_source({KEY: value})
    except MetadataValueError as error:
        assert error.key == KEY
    else:
        assert epoch is None if not value else epoch == int(value)
