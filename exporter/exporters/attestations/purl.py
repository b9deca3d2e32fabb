"""Package URLs of images: the names of subjects in attestations (BuildKit: ``util/purl``)."""

from __future__ import annotations

from urllib.parse import quote

from exporter.image import ImageError, Platform, Reference
from exporter.image.go import text as gotext

__all__ = ["image_purl"]

# Go's url.PathEscape does not escape these, nor letters, digits and "_.-~", which Python always keeps.
_PATH_SAFE = "$&+=:@"


def image_purl(name: str, platform: Platform) -> str:
    """The package URL (purl specification, type ``docker``) of a platform's image.

    Args:
        name: A reference as the user wrote it; the default tag is ``latest``.
        platform: The image's platform.

    Raises:
        ImageError: the name is not a reference; with BuildKit's text.
    """
    try:
        reference = Reference.parse(name)
    except ImageError as error:
        raise ImageError(f"failed to parse ref {gotext.quote(name)}: {error}") from error
    qualifiers = [("platform", platform.normalized().format())]
    if reference.digest is not None:
        qualifiers.insert(0, ("digest", reference.digest))
    reference = reference.tag_name_only()
    path = "/".join(quote(part, safe="") for part in reference.familiar_name.split("/"))
    version = f"@{quote(reference.tag, safe=_PATH_SAFE)}" if reference.tag is not None else ""
    query = "&".join(f"{key}={quote(value, safe=_PATH_SAFE)}" for key, value in qualifiers)
    return f"pkg:docker/{path}{version}?{query}"
