"""Build contexts of different kinds. They need no network: what runs in them is a static busybox."""

from __future__ import annotations

import gzip
import io
import shutil
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tests.peers import require

BASE = "local/base:v1"
"""The name of the image that `Case.needs_base` is about."""

IMPORTED = "local/imported:v1"
"""The name of an image that ``docker import`` has made of `archive`."""

_BUSYBOX = "FROM scratch\nCOPY busybox /bin/busybox\nCOPY busybox /bin/sh\n"


@dataclass(frozen=True)
class Case:
    """A Dockerfile and its build context.

    Attributes:
        dockerfile: Its text.
        files: The files of the context, in addition to busybox.
        attrs: Attributes of the frontend.
        inline_cache: Whether cache data is embedded.
        needs_base: Whether it builds on an image that has to be loaded before.
    """

    dockerfile: str
    files: Mapping[str, bytes] = field(default_factory=dict)
    attrs: Mapping[str, str] = field(default_factory=dict)
    inline_cache: bool = False
    needs_base: bool = False


def archive() -> bytes:
    """A small tarball."""
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as tar:
        for name in ("unpacked/one", "unpacked/two"):
            info = tarfile.TarInfo(name)
            info.size = len(name)
            tar.addfile(info, io.BytesIO(name.encode()))
    return data.getvalue()


CASES: Mapping[str, Case] = {
    "scratch-copy": Case("FROM scratch\nCOPY a /a\n", {"a": b"a"}),
    "metadata-only": Case('FROM scratch\nENV A=1\nLABEL b="<&>"\nCMD ["/a"]\nEXPOSE 80/tcp\nSTOPSIGNAL 9\n'),
    "run-chain": Case(
        _BUSYBOX + "RUN busybox mkdir /d\nENV X=1 Y='<&> \"z\"'\nRUN echo one >/d/one && echo two >/d/two\n"
        'RUN ["/bin/busybox", "sh", "-c", "echo three >/d/three"]\n'
    ),
    "multi-stage": Case(
        _BUSYBOX.replace("scratch", "scratch AS builder")
        + "RUN echo built >/built\nRUN echo more >/more\n"
        + "FROM scratch\nCOPY --from=builder /built /more /out/\nCOPY a /a\n",
        {"a": b"a"},
    ),
    "stages-of-equal-length": Case(
        _BUSYBOX.replace("scratch", "scratch AS one")
        + "RUN echo one >/one\n"
        + _BUSYBOX.replace("scratch", "scratch AS two")
        + "RUN echo two >/two\nCOPY --from=one /one /one\n"
    ),
    "special-characters": Case(
        _BUSYBOX + 'LABEL quote="a \\"quoted\\" <b> & c" back=\'back\\\\slash\' uni="grüße 世界"\n'
        "RUN echo 'less < more > & \"double\" \\ grüße' >/out\n"
        'COPY ["a b <&>.txt", "/x y/"]\nRUN busybox ls /\n',
        {"a b <&>.txt": b"x"},
    ),
    "workdir-user-volume": Case(
        _BUSYBOX + 'WORKDIR /srv/app\nUSER 1000:1000\nVOLUME ["/data", "/more"]\nWORKDIR sub\n'
        'HEALTHCHECK --interval=5s CMD true\nSHELL ["/bin/busybox", "sh", "-c"]\n'
    ),
    "onbuild": Case("FROM scratch\nONBUILD COPY a /a\nONBUILD RUN echo hi\nCOPY a /b\n", {"a": b"a"}),
    "add-tar": Case(
        "FROM scratch\nADD files.tar.gz /in/\nADD a /a\n",
        {"files.tar.gz": gzip.compress(archive(), mtime=0), "a": b"a"},
    ),
    "copy-chown": Case(
        "FROM scratch\nCOPY --chown=1000:2000 dir /dir\nCOPY --chown=7 a /a\n",
        {"dir/x": b"x", "dir/sub/y": b"y", "a": b"a"},
    ),
    "inline-cache": Case(_BUSYBOX + "RUN echo a >/a\nENV X=1\nRUN echo b >/b\n", inline_cache=True),
    "arguments": Case(
        "ARG FIRST=1\nFROM scratch\nARG FIRST\nARG SECOND=2\n"
        + _BUSYBOX.partition("\n")[2]
        + "ARG THIRD\nRUN echo $FIRST $SECOND $THIRD >/args\n",
        attrs={"build-arg:THIRD": "<3>"},
    ),
    "target": Case(
        "FROM scratch AS wanted\nCOPY a /a\nFROM wanted\nCOPY a /b\n", {"a": b"a"}, attrs={"target": "wanted"}
    ),
    "ignored-files": Case(
        "FROM scratch\nCOPY . /all\n",
        {
            ".dockerignore": b"*\n!a\n!dir\ndir/*.log\n",
            "a": b"a",
            "b": b"b",
            "dir/x": b"x",
            "dir/y.log": b"y",
        },
    ),
    "base": Case(f"FROM {BASE}\nENV NEW=1\nRUN echo more >/more\nCOPY a /a\n", {"a": b"a"}, needs_base=True),
    "imported-base": Case(f"FROM {IMPORTED}\nCOPY a /a\nENV A=1\n", {"a": b"a"}),
    "base-metadata-only": Case(f"FROM {BASE}\nLABEL extra=1\n", needs_base=True),
}

BASE_CASE = Case(_BUSYBOX + 'ENV BASE=one\nRUN echo base >/base\nCMD ["/bin/sh"]\n')
"""Makes the image of the name `BASE`."""


def write_context(directory: Path, case: Case) -> Path:
    """Write a case's context into a directory, which may have it already."""
    directory.mkdir(exist_ok=True)
    shutil.copy(require("busybox", "busybox-static"), directory / "busybox")
    (directory / "Dockerfile").write_text(case.dockerfile, encoding="utf-8")
    for name, data in case.files.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return directory
