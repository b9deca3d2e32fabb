from __future__ import annotations

import pytest

from exporter.image.options.attributes import AttributeValueError
from exporter.image.options.compression import CompressionConfig, CompressionType


@pytest.mark.parametrize(
    ("attrs", "config"),
    [
        ({}, CompressionConfig()),
        (
            {"compression": "zstd", "compression-level": "22"},
            CompressionConfig(CompressionType.ZSTD, level=22),
        ),
        ({"force-compression": ""}, CompressionConfig(force=True)),
        ({"force-compression": "F"}, CompressionConfig(force=False)),
        ({"compression-level": "-7"}, CompressionConfig(level=-7)),
    ],
)
def test_attributes(attrs: dict[str, str], config: CompressionConfig) -> None:
    assert CompressionConfig.load(attrs) == config


@pytest.mark.parametrize(
    ("attrs", "attribute", "message"),
    [
        ({"compression": ""}, "compression", "unsupported compression type "),
        ({"compression": "GZIP"}, "compression", "unsupported compression type GZIP"),
        (
            {"force-compression": "maybe"},
            "force-compression",
            "non-bool value maybe specified for force-compression: "
            'strconv.ParseBool: parsing "maybe": invalid syntax',
        ),
        (
            {"compression-level": ""},
            "compression-level",
            "non-integer value  specified for compression-level: "
            'strconv.ParseInt: parsing "": invalid syntax',
        ),
    ],
)
def test_bad_attributes(attrs: dict[str, str], attribute: str, message: str) -> None:
    with pytest.raises(AttributeValueError) as error:
        CompressionConfig.load(attrs)
    assert (error.value.attribute, str(error.value)) == (attribute, message)
