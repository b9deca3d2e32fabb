"""Platforms: parsing, formatting and normalising specifiers such as ``linux/arm/v7`` as containerd does.

Rules and error texts are those of ``github.com/containerd/platforms``. BuildKit uses them for platform IDs,
annotation keys (``annotation[linux/amd64].…``) and the platforms of an image index.
"""

from __future__ import annotations

import platform as _stdlib_platform
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache

from exporter.errors import ImageError
from exporter.image.go import json as gojson
from exporter.image.go import text as gotext

_OS_PATTERN = r"^([A-Za-z0-9_-]+)(?:\(([A-Za-z0-9_.%-]*)((?:\+[A-Za-z0-9_.%-]+)*)\))?$"
_COMPONENT_PATTERN = r"^[A-Za-z0-9_.-]+$"
_OS = re.compile(_OS_PATTERN)
_COMPONENT = re.compile(_COMPONENT_PATTERN)
_PERCENT_ESCAPE = re.compile(r"%([0-9A-Fa-f]{2})?")

# fmt: off
_KNOWN_OS = frozenset({
    "aix", "android", "darwin", "dragonfly", "freebsd", "hurd", "illumos", "ios", "js", "linux", "nacl",
    "netbsd", "openbsd", "plan9", "solaris", "windows", "zos",
})
_KNOWN_ARCHITECTURES = frozenset({
    "386", "amd64", "amd64p32", "arm", "arm64", "arm64be", "armbe", "loong64", "mips", "mips64", "mips64le",
    "mips64p32", "mips64p32le", "mipsle", "ppc", "ppc64", "ppc64le", "riscv", "riscv64", "s390", "s390x",
    "sparc", "sparc64", "wasm",
})
# fmt: on
PLATFORM_TYPE = gojson.Struct(
    "v1.Platform",
    {
        "architecture": gojson.String(),
        "os": gojson.String(),
        "os.version": gojson.String(),
        "os.features": gojson.Slice(gojson.String()),
        "variant": gojson.String(),
    },
)
"""A platform in JSON (``ocispecs.Platform``), for `Platform.from_dict`."""

_OS_OPTION_ESCAPES = str.maketrans({"%": "%25", "+": "%2B", "(": "%28", ")": "%29", "/": "%2F"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Platform:
    """An operating system and a processor architecture (the OCI image spec's ``platform`` object).

    Attributes:
        architecture: ``amd64``, ``arm64``, … (Go's names).
        os: ``linux``, ``windows``, … (Go's names).
        os_version: Such as ``10.0.17763.1``, for Windows.
        os_features: Such as ``win32k``.
        variant: The variant of the architecture, such as ``v7``.
    """

    architecture: str = ""
    os: str = ""
    os_version: str = ""
    os_features: tuple[str, ...] = ()
    variant: str = ""

    @classmethod
    def parse(cls, specifier: str, *, host: Platform | None = None) -> Platform:
        """Read ``<os>[(<version>+<feature>…)]``, ``<arch>`` or ``<os>[(…)]/<arch>[/<variant>]``.

        A lone operating system gets the host's architecture, a lone architecture the host's operating system.

        Args:
            specifier: The text.
            host: The platform for what is missing; that of the running machine if None.

        Raises:
            ImageError: the specifier is invalid; with containerd's text.
        """
        if "*" in specifier:
            raise ImageError(f"{gotext.quote(specifier)}: wildcards not yet supported: invalid argument")
        parts = specifier.split("/", 3)
        os, os_version, os_features = _parse_os(parts[0], specifier)
        for part in parts[1:]:
            if not _COMPONENT.fullmatch(part):
                raise ImageError(
                    f"{gotext.quote(part)} is an invalid component of {gotext.quote(specifier)}: platform "
                    f"specifier component must match {gotext.quote(_COMPONENT_PATTERN)}: invalid argument"
                )
        if len(parts) == 1:
            architecture, variant, os = _complete(parts[0], os, specifier, host or host_platform())
        elif len(parts) == 2:
            architecture, variant = _parse_architecture(parts[1])
        elif len(parts) == 3:
            architecture, variant = _normalize_architecture(parts[1], parts[2])
            if architecture == "arm64" and not variant:
                variant = "v8"
        else:
            raise ImageError(f"{gotext.quote(specifier)}: cannot parse platform specifier: invalid argument")
        return cls(
            architecture=architecture, os=os, os_version=os_version, os_features=os_features, variant=variant
        )

    @classmethod
    def from_dict(cls, value: Mapping[str, object]) -> Platform:
        """Read a ``platform`` object of an OCI document.

        Raises:
            ImageError: a field has the wrong type.
        """
        features = value.get("os.features")
        if not isinstance(features, list | tuple | None):
            raise ImageError("platform: os.features must be a list of strings")
        return cls(
            architecture=_string(value, "architecture"),
            os=_string(value, "os"),
            os_version=_string(value, "os.version"),
            os_features=tuple(_expect_string(feature, "os.features") for feature in features or ()),
            variant=_string(value, "variant"),
        )

    def to_dict(self) -> dict[str, object]:
        """The ``platform`` object of an OCI document: fields in the spec's order, empty ones omitted."""
        result: dict[str, object] = {"architecture": self.architecture, "os": self.os}
        if self.os_version:
            result["os.version"] = self.os_version
        if self.os_features:
            result["os.features"] = list(self.os_features)
        if self.variant:
            result["variant"] = self.variant
        return result

    def format(self) -> str:
        """``os/architecture/variant`` without version and features, or ``unknown`` if `os` is empty."""
        return _join_path(self.os, self.architecture, self.variant) if self.os else "unknown"

    def format_all(self) -> str:
        """``os(version+feature…)/architecture/variant``, which BuildKit uses as the platform ID."""
        if not self.os:
            return "unknown"
        options = self.os_version.translate(_OS_OPTION_ESCAPES)
        for feature in sorted(set(self.os_features) - {""}):
            options += "+" + feature.translate(_OS_OPTION_ESCAPES)
        os = f"{self.os}({options})" if options else self.os
        return _join_path(os, self.architecture, self.variant)

    def normalized(self, *, host: Platform | None = None) -> Platform:
        """The canonical form: ``x86_64`` is ``amd64``, ``arm64/v8`` is ``arm64``, ``arm`` is ``arm/v7``.

        An empty operating system becomes that of `host` (the running machine if None).
        """
        architecture, variant = _normalize_architecture(self.architecture, self.variant)
        return replace(
            self,
            architecture=architecture,
            os=_normalize_os(self.os) or (host or host_platform()).os,
            os_features=tuple(sorted(set(self.os_features))),
            variant=variant,
        )

    def __str__(self) -> str:
        return self.format_all()


@cache
def host_platform() -> Platform:
    """The platform that this process runs on, as containerd's ``DefaultSpec`` names it on Unix.

    The variant (of ARM processors only) is taken from the machine name that the kernel reports, not from
    ``/proc/cpuinfo``.
    """
    machine = _stdlib_platform.machine()
    os = "windows" if sys.platform == "win32" else sys.platform.rstrip("0123456789")
    return machine_platform(os, machine, bits=64 if sys.maxsize > 2**32 else 32, byte_order=sys.byteorder)


def machine_platform(os: str, machine: str, *, bits: int, byte_order: str) -> Platform:
    """The platform of a machine that ``uname -m`` calls `machine`.

    Args:
        os: In Go's spelling.
        machine: Such as ``x86_64``, ``armv7l``, ``aarch64``.
        bits: 32 or 64, of the process: a 64-bit kernel also runs 32-bit processes.
        byte_order: ``little`` or ``big``; only matters for MIPS.
    """
    name = machine.lower()
    if name in {"x86_64", "amd64"} or re.fullmatch(r"i[3-6]86|x86", name):
        return Platform(os=os, architecture="amd64" if bits == 64 and name.endswith("64") else "386")
    if name in {"aarch64", "arm64"}:
        return Platform(os=os, architecture="arm" if bits == 32 else "arm64", variant="v8")
    if arm := re.match(r"armv([3-8])", name):
        return Platform(os=os, architecture="arm", variant=f"v{arm[1]}")
    if re.fullmatch(r"mips(64)?", name):
        width = "64" if name == "mips64" and bits == 64 else ""
        return Platform(os=os, architecture=f"mips{width}{'le' if byte_order == 'little' else ''}")
    return Platform(os=os, architecture={"loongarch64": "loong64"}.get(name, name))


def _parse_os(component: str, specifier: str) -> tuple[str, str, tuple[str, ...]]:
    match = _OS.fullmatch(component)
    if match is None:
        raise ImageError(
            f"{gotext.quote(component)} is an invalid OS component of {gotext.quote(specifier)}: "
            f"OSAndVersion specifier component must match {gotext.quote(_OS_PATTERN)}: invalid argument"
        )
    name, version, features = match.groups(default="")
    try:
        os_version = _decode_os_option(version)
    except ImageError as error:
        text = f"{gotext.quote(specifier)} has an invalid OS version {gotext.quote(version)}: {error}"
        raise ImageError(text) from error
    os_features = []
    for feature in features.split("+")[1:]:
        try:
            os_features.append(_decode_os_option(feature))
        except ImageError as error:
            text = f"{gotext.quote(specifier)} has invalid OS features: invalid os feature"
            raise ImageError(f"{text} {gotext.quote(feature)}: {error}") from error
    return _normalize_os(name), os_version, tuple(os_features)


def _complete(text: str, os: str, specifier: str, host: Platform) -> tuple[str, str, str]:
    """Architecture, variant and operating system of a specifier that names only one of them."""
    if os in _KNOWN_OS:
        # `arm` alone means v7, so the variant is omitted.
        variant = host.variant if host.architecture == "arm" and host.variant != "v7" else ""
        return host.architecture, variant, os
    architecture, variant = _parse_architecture(text)
    if architecture in _KNOWN_ARCHITECTURES:
        return architecture, variant, host.os
    raise ImageError(f"{gotext.quote(specifier)}: unknown operating system or architecture: invalid argument")


def _parse_architecture(text: str) -> tuple[str, str]:
    architecture, variant = _normalize_architecture(text, "")
    return architecture, "" if (architecture, variant) == ("arm", "v7") else variant


def _normalize_os(os: str) -> str:
    name = gotext.lower(os)
    return "darwin" if name == "macos" else name


def _normalize_architecture(architecture: str, variant: str) -> tuple[str, str]:
    architecture, variant = gotext.lower(architecture), gotext.lower(variant)
    match architecture, variant:
        case "i386", _:
            return "386", ""
        case "x86_64" | "x86-64" | "amd64", _:
            return "amd64", "" if variant == "v1" else variant
        case "aarch64" | "arm64", "8" | "v8" | "v8.0":
            return "arm64", ""
        case "aarch64" | "arm64", "9" | "9.0" | "v9.0":
            return "arm64", "v9"
        case "aarch64", _:
            return "arm64", variant
        case "armhf", _:
            return "arm", "v7"
        case "armel", _:
            return "arm", "v6"
        case "arm", "" | "7":
            return "arm", "v7"
        case "arm", "5" | "6" | "8":
            return "arm", f"v{variant}"
    return architecture, variant


def _decode_os_option(text: str) -> str:
    """Undo percent-encoding as ``url.PathUnescape`` does; bytes that are not UTF-8 become U+FFFD."""
    for escape in _PERCENT_ESCAPE.finditer(text):
        if escape[1] is None:
            start = escape.start()
            raise ImageError(f"invalid URL escape {gotext.quote(text[start : start + 3])}")
    data = re.sub(rb"%(..)", lambda escape: bytes.fromhex(escape[1].decode()), text.encode())
    return gotext.decode(data)


def _join_path(*elements: str) -> str:
    """Join as ``path.Join`` does: drop empty elements, resolve dots. Not all elements are empty."""
    joined = "/".join(element for element in elements if element)
    rooted = joined.startswith("/")
    parts: list[str] = []
    for part in joined.split("/"):
        if part in {"", "."}:
            continue
        if part != "..":
            parts.append(part)
        elif parts and parts[-1] != "..":
            parts.pop()
        elif not rooted:
            parts.append("..")
    cleaned = "/".join(parts)
    return f"/{cleaned}" if rooted else cleaned or "."


def _string(value: Mapping[str, object], key: str) -> str:
    field = value.get(key)
    return "" if field is None else _expect_string(field, key)


def _expect_string(value: object, key: str) -> str:
    if not isinstance(value, str):
        raise ImageError(f"platform: {key} must be a string")
    return value
