"""Parsing resource limits and hosts for a build's steps like docker, into attributes of the frontend."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Sequence

from exporter.cli.failures import UsageError

HOST_GATEWAY = "host-gateway"
"""Instead of an address: the machine on which the engine runs."""

_SIZE = re.compile(r"([0-9]*\.?[0-9]*) ?(?:([kmgtp])(?:i?b)?|b)?", re.IGNORECASE | re.ASCII)
_POWERS = {"k": 10, "m": 20, "g": 30, "t": 40, "p": 50}
_NUMBER = re.compile(r"[+-]?[0-9]+", re.ASCII)

_ULIMITS = frozenset(
    {"core", "cpu", "data", "fsize", "locks", "memlock", "msgqueue", "nice", "nofile", "nproc", "rss"}
    | {"rtprio", "rttime", "sigpending", "stack"}
)

_RESOURCES = {
    "memory": "memory",
    "memory-swap": "memswap",
    "cpu-shares": "cpushares",
    "cpu-period": "cpuperiod",
    "cpu-quota": "cpuquota",
    "cpuset-cpus": "cpusetcpus",
    "cpuset-mems": "cpusetmems",
}
_SIZES = frozenset({"memory", "memory-swap"})
_TEXTS = frozenset({"cpuset-cpus", "cpuset-mems"})


def extra_hosts(texts: Iterable[str]) -> str:
    """Convert ``HOST:IP`` or ``HOST=IP`` to the value of ``add-hosts``. A text may have several.

    `HOST_GATEWAY` stays unchanged.

    Raises:
        UsageError: a value is malformed.
    """
    hosts = []
    for text in _entries(texts):
        host, equals, addresses = text.partition("=")
        if not equals:
            host, _, addresses = text.partition(":")
        if not host or not addresses:
            raise UsageError(f"--add-host: invalid host {text}: write HOST:IP")
        hosts += [f"{host}={_address(address, text)}" for address in addresses.split(",")]
    return ",".join(hosts)


def size_in_bytes(text: str, option: str) -> int:
    """Parse a size such as ``64m``, in powers of 1024.

    Raises:
        UsageError: the text is malformed.
    """
    match = _SIZE.fullmatch(text)
    try:
        number = float(match[1]) if match is not None else None
    except ValueError:
        number = None
    if match is None or number is None:
        raise UsageError(
            f"{option}: invalid size: '{text}': write a number of bytes, or one with a unit such as 128m"
        )
    return int(number * (1 << _POWERS.get((match[2] or "").lower(), 0)))


def ulimits(texts: Iterable[str]) -> str:
    """Read ``TYPE=SOFT[:HARD]``: the value of ``ulimit``, by type; of those of one type the last counts.

    Raises:
        UsageError: one is malformed.
    """
    found = {}
    for text in texts:
        name, equals, values = text.partition("=")
        if not equals:
            raise UsageError(f"--ulimit: invalid ulimit argument: {text}: write TYPE=SOFT[:HARD]")
        if name not in _ULIMITS:
            raise UsageError(
                f"--ulimit: invalid ulimit type: {name}: the types are {', '.join(sorted(_ULIMITS))}"
            )
        limits = values.split(":")
        if len(limits) > 2 or not all(map(_NUMBER.fullmatch, limits)):
            raise UsageError(f"--ulimit: invalid limits {values} in {text}: write SOFT[:HARD], two numbers")
        soft, hard = int(limits[0]), int(limits[-1])
        if hard != -1 and (soft == -1 or soft > hard):
            raise UsageError(
                f"--ulimit: ulimit soft limit must be less than or equal to hard limit: {soft} > {hard}"
            )
        found[name] = f"{name}={soft}:{hard}"
    return ",".join(value for _, value in sorted(found.items()))


def resources(texts: Iterable[str]) -> dict[str, str]:
    """Read ``KEY=VALUE`` with the names of ``docker run``'s limits: attributes of the frontend.

    Raises:
        UsageError: one is malformed.
    """
    attrs = {}
    for text in texts:
        key, equals, value = (part.strip() for part in text.partition("="))
        if not equals:
            raise UsageError(f"--resource: invalid resource {text!r}: write KEY=VALUE")
        if key not in _RESOURCES:
            raise UsageError(f"--resource: unknown resource {key!r}: there are {', '.join(_RESOURCES)}")
        option = f"--resource {key}"
        if key in _TEXTS:
            if value:
                attrs[_RESOURCES[key]] = value
            continue
        if key == "memory-swap" and value == "-1":
            number = -1
        elif key in _SIZES:
            number = size_in_bytes(value, option)
        elif _NUMBER.fullmatch(value):
            number = int(value)
        else:
            raise UsageError(f"{option}: invalid value {value!r}: write a whole number")
        if number > 0 or (number and key == "memory-swap"):
            attrs[_RESOURCES[key]] = str(number)
    return attrs


def _entries(texts: Iterable[str]) -> Sequence[str]:
    """Split at commas like docker's flag, but not within a list of addresses."""
    entries: list[str] = []
    for text in texts:
        for piece in text.split(","):
            if entries and piece and _is_address(piece):
                entries[-1] += f",{piece}"
            else:
                entries.append(piece)
    return entries


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text.strip("[]"))
    except ValueError:
        return False
    return True


def _address(text: str, whole: str) -> str:
    if text == HOST_GATEWAY:
        return text
    plain = text[1:-1] if text.startswith("[") and text.endswith("]") else text
    if not _is_address(plain):
        raise UsageError(f"--add-host: invalid host {whole}: {text} is not an IP address")
    return plain
