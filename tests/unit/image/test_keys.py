from __future__ import annotations

import pytest

from exporter.image.keys import IMAGE_CONFIG, parse_key


@pytest.mark.parametrize(
    ("metadata", "platform_id", "value"),
    [
        ({}, "linux/arm64", None),
        ({IMAGE_CONFIG: b"all"}, "linux/arm64", b"all"),
        ({IMAGE_CONFIG: b"all", f"{IMAGE_CONFIG}/linux/arm64": b"own"}, "linux/arm64", b"own"),
        ({IMAGE_CONFIG: b"all", f"{IMAGE_CONFIG}/linux/arm64": b""}, "linux/arm64", b""),
        ({IMAGE_CONFIG: b"all", f"{IMAGE_CONFIG}/linux/arm64": b"own"}, None, b"all"),
        ({f"{IMAGE_CONFIG}/linux/arm64": b"own"}, "linux/amd64", None),
    ],
)
def test_a_platforms_own_value_comes_first(
    metadata: dict[str, bytes], platform_id: str | None, value: bytes | None
) -> None:
    assert parse_key(metadata, IMAGE_CONFIG, platform_id) == value
