"""BuildKit's compatibility versions, with which a build requests the output of an earlier release."""

from __future__ import annotations

from exporter.errors import ImageError

V0_13 = 10
"""As BuildKit 0.13: Docker media types unless there are attestations, no zstd."""
V0_15 = 20
"""As BuildKit 0.15: Docker media types unless there are attestations."""
V0_31 = 30
"""As BuildKit 0.31: OCI media types, attestations as OCI artifacts."""
CURRENT = V0_31

SUPPORTED = (V0_13, V0_15, V0_31)


def check_compatibility_version(version: int) -> None:
    """Check that a build may request this version.

    Args:
        version: The version; 0 means the newest.

    Raises:
        ImageError: there is no such version; with BuildKit's text.
    """
    if version in {0, *SUPPORTED}:
        return
    if version > CURRENT:
        raise ImageError(
            f"unsupported compatibility-version {version}: upgrade buildkit (max supported: {CURRENT})"
        )
    supported = " ".join(map(str, SUPPORTED))
    raise ImageError(f"unsupported compatibility-version {version} (supported: [{supported}])")
