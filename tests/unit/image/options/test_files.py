from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.image.epoch import Epoch
from exporter.image.options.attributes import AttributeValueError
from exporter.image.options.files import FSOptions, LocalExporterMode


def test_defaults() -> None:
    assert FSOptions.load({}) == (FSOptions(), {})


def test_all_attributes() -> None:
    options, rest = FSOptions.load(
        {
            "source-date-epoch": "5",
            "attestation-prefix": "a-",
            "platform-split": "F",
            "mode": " DELETE\n",
            "dest": "x",
        }
    )
    assert options == FSOptions(
        epoch=Epoch(5), attestation_prefix="a-", platform_split=False, mode=LocalExporterMode.DELETE
    )
    assert rest == {"dest": "x"}


@pytest.mark.parametrize(
    ("attrs", "attribute", "message"),
    [
        (
            {"platform-split": "x"},
            "platform-split",
            'non-bool value for platform-split: x: strconv.ParseBool: parsing "x": invalid syntax',
        ),
        (
            {"platform-split": ""},
            "platform-split",
            'non-bool value for platform-split: : strconv.ParseBool: parsing "": invalid syntax',
        ),
        ({"mode": "x\ty"}, "mode", r'invalid local exporter mode "x\ty"'),
        ({"mode": "copy\x1c"}, "mode", r'invalid local exporter mode "copy\x1c"'),
        (
            {"source-date-epoch": "x", "mode": "y"},
            "source-date-epoch",
            'invalid source-date-epoch: strconv.ParseInt: parsing "x": invalid syntax: '
            'strconv.ParseInt: parsing "x": invalid syntax',
        ),
    ],
)
def test_bad_attributes(attrs: dict[str, str], attribute: str, message: str) -> None:
    with pytest.raises(AttributeValueError) as error:
        FSOptions.load(attrs)
    assert (error.value.attribute, str(error.value)) == (attribute, message)


@pytest.mark.parametrize("keyed", [True, False])
def test_a_keyed_result_is_split_by_default(keyed: bool) -> None:
    assert FSOptions().use_platform_split(is_keyed=keyed) is keyed
    assert FSOptions(platform_split=True).use_platform_split(is_keyed=keyed) is True
    assert FSOptions(platform_split=False).use_platform_split(is_keyed=keyed) is False


@given(st.dictionaries(st.sampled_from(["mode", "platform-split", "source-date-epoch", "x"]), st.text()))
def test_any_attributes_are_read_or_refused(attrs: dict[str, str]) -> None:
    try:
        FSOptions.load(attrs)
    except AttributeValueError as error:
        assert error.attribute in attrs
