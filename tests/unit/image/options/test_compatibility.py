from __future__ import annotations

import pytest

from exporter.errors import ImageError
from exporter.image.options.compatibility import SUPPORTED, check_compatibility_version


@pytest.mark.parametrize("version", [0, *SUPPORTED])
def test_supported_versions(version: int) -> None:
    check_compatibility_version(version)


@pytest.mark.parametrize(
    ("version", "message"),
    [
        (-1, "unsupported compatibility-version -1 (supported: [10 20 30])"),
        (11, "unsupported compatibility-version 11 (supported: [10 20 30])"),
        (40, "unsupported compatibility-version 40: upgrade buildkit (max supported: 30)"),
    ],
)
def test_other_versions(version: int, message: str) -> None:
    with pytest.raises(ImageError) as error:
        check_compatibility_version(version)
    assert str(error.value) == message
