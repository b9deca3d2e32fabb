"""Destinations of exports, and checks that the artifacts have arrived."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.crash import simulated

IMAGE = "example.com/app:new"
OLD_IMAGE = "example.com/app:old"
OLD = b"what was there before"

EPOCH = "source-date-epoch=1700000000"
"""The same bytes whenever it is exported."""

Words = Sequence[str]


@dataclass(frozen=True)
class Place:
    """What a destination may use.

    Attributes:
        path: A directory of its own.
        source: A saved source.
        number: Unlike that of any other place.
        peer: How the program is reached that the destination is in, if any.
    """

    path: Path
    source: Path
    number: int
    peer: str = ""

    @property
    def socket(self) -> Path:
        """Where a server listens."""
        return self.path / "s"


@dataclass(frozen=True)
class Destination:
    """A destination.

    Attributes:
        name: As ``scripts/crash`` calls it.
        export: The export that is killed.
        check: Commands that must succeed after it has been repeated.
        before: Commands that are run before it, if something is to be there already.
        intact: Commands that must succeed right after the kill: what was there is still good.
        replaced: A file that has its old content or its new one at any time.
        peer: The program that is needed.
        server: The command that runs a server, if that exports, and is killed in place of its client.
    """

    name: str
    export: Callable[[Place], Words]
    check: Callable[[Place], Sequence[Words]] = lambda place: []
    before: Callable[[Place], Sequence[Words]] = lambda place: []
    intact: Callable[[Place], Sequence[Words]] = lambda place: []
    replaced: str = ""
    peer: str = ""
    server: Callable[[Place], Words] | None = None


def _export(place: Place, output: str, *words: str) -> Words:
    return [
        *("export", "--source", str(place.source), "--root", str(place.path / "root")),
        *("--output", f"{output},{EPOCH}", *words),
    ]


def _dest(place: Place, name: str = "dest") -> str:
    return str(place.path / name)


def _verify(place: Place, name: str, *words: str) -> list[Words]:
    return [["verify", _dest(place, name), *words, "--quiet"]]


def _store(name: str, attrs: str = "", *, type: str = "image") -> Callable[[Place], Words]:
    return lambda place: _export(place, f"type={type},name={name}{attrs}")


def _file(name: str, output: str, *, verified: bool = True) -> Destination:
    return Destination(
        name,
        lambda place: _export(
            place, f"{output},dest={_dest(place)}", "--metadata-file", _dest(place, "metadata.json")
        ),
        check=(lambda place: _verify(place, "dest")) if verified else (lambda place: []),
        replaced="dest",
    )


def _serve(place: Place) -> Words:
    return ["serve", "--addr", f"unix://{place.socket}", "--root", _dest(place, "root")]


def _proxy(place: Place) -> Words:
    return [
        *("proxy", "--buildkitd", place.peer, "--addr", f"unix://{place.socket}"),
        *("--root", _dest(place, "root"), "--output-dir", str(place.path)),
    ]


def _simulated(*words: str) -> Callable[[Place], Words]:
    return lambda place: [simulated.COMMAND, f"unix://{place.socket}", *words, EPOCH]


def _served(output: str) -> Callable[[Place], Words]:
    return lambda place: [
        *("export", "--addr", f"unix://{place.socket}", "--source", str(place.source)),
        *("--output", f"{output.format(dest=_dest(place))},{EPOCH}"),
    ]


ZSTD = ",compression=zstd,force-compression=true"

DESTINATIONS = [
    _file("oci archive", "type=oci,name=" + IMAGE),
    _file("docker archive", "type=docker,name=" + IMAGE),
    _file("tar", "type=tar", verified=False),
    Destination("local", lambda place: _export(place, f"type=local,dest={_dest(place)}")),
    Destination(
        "local, mode=delete, over another",
        lambda place: _export(place, f"type=local,mode=delete,dest={_dest(place)}"),
        before=lambda place: [
            ["sample", _dest(place, "dest/of/others")],
            _export(place, f"type=local,dest={_dest(place)}"),
        ],
    ),
    Destination(
        "oci layout",
        lambda place: _export(place, f"type=oci,tar=false,name={IMAGE},dest={_dest(place)}"),
        check=lambda place: _verify(place, "dest"),
    ),
    Destination(
        "oci layout, beside another image",
        lambda place: _export(place, f"type=oci,tar=false,name={IMAGE},dest={_dest(place)}{ZSTD}"),
        check=lambda place: _verify(place, "dest"),
        before=lambda place: [_export(place, f"type=oci,tar=false,name={OLD_IMAGE},dest={_dest(place)}")],
        intact=lambda place: _verify(place, "dest", OLD_IMAGE),
    ),
    Destination("image", _store(IMAGE), check=lambda place: _verify(place, "root", IMAGE)),
    Destination(
        "image, zstd, beside another",
        _store(IMAGE, ZSTD),
        check=lambda place: _verify(place, "root", IMAGE),
        before=lambda place: [_store(OLD_IMAGE)(place)],
        intact=lambda place: _verify(place, "root", OLD_IMAGE),
    ),
    Destination(
        "image, the name moves",
        _store(IMAGE, ZSTD),
        check=lambda place: _verify(place, "root", IMAGE),
        before=lambda place: [_store(IMAGE)(place)],
        intact=lambda place: _verify(place, "root", IMAGE),
    ),
    Destination(
        "moby",
        _store(IMAGE, type="moby"),
        check=lambda place: _verify(place, "root"),
    ),
    Destination(
        "moby, beside another",
        _store(IMAGE, type="moby"),
        check=lambda place: _verify(place, "root"),
        before=lambda place: [_store(OLD_IMAGE)(place)],
        intact=lambda place: _verify(place, "root", OLD_IMAGE),
    ),
    Destination(
        "prune",
        lambda place: ["prune", "--root", _dest(place, "root"), "--keep-duration", "0"],
        check=lambda place: _verify(place, "root", IMAGE),
        before=lambda place: [_store(OLD_IMAGE, ZSTD)(place), _store(IMAGE)(place), _store(OLD_IMAGE)(place)],
        intact=lambda place: _verify(place, "root", IMAGE),
    ),
    Destination(
        "registry",
        lambda place: _export(
            place, f"type=registry,name={place.peer}/app{place.number}:new,registry.insecure=true,store=false"
        ),
        check=lambda place: [
            ["verify", f"{place.peer}/app{place.number}:new", "--registry-insecure", "--quiet"]
        ],
        peer="registry",
    ),
    Destination(
        "containerd",
        lambda place: _export(
            place,
            f"type=image,name=example.com/app{place.number}:new,unpack=true",
            *("--containerd", place.peer, "--containerd-snapshotter", "native"),
        ),
        check=lambda place: [
            ["verify", f"example.com/app{place.number}:new", "--containerd", place.peer, "--quiet"]
        ],
        peer="containerd",
    ),
    Destination(
        "serve: image, zstd, beside another",
        _served(f"type=image,name={IMAGE}{ZSTD}"),
        check=lambda place: _verify(place, "root", IMAGE),
        before=lambda place: [_store(OLD_IMAGE)(place)],
        intact=lambda place: _verify(place, "root", OLD_IMAGE),
        server=_serve,
    ),
    Destination(
        "serve: moby",
        _served(f"type=moby,name={IMAGE}"),
        check=lambda place: _verify(place, "root"),
        server=_serve,
    ),
    Destination(
        "serve: oci archive",
        _served(f"type=oci,name={IMAGE},dest={{dest}}"),
        check=lambda place: _verify(place, "dest"),
        replaced="dest",
        server=_serve,
    ),
    Destination("serve: local", _served("type=local,dest={dest}"), server=_serve),
    Destination(
        "serve: oci layout",
        _served(f"type=oci,tar=false,name={IMAGE},dest={{dest}}"),
        check=lambda place: _verify(place, "dest"),
        server=_serve,
    ),
    Destination(
        "proxy: image, beside another",
        _simulated("plugin.image", f"name={IMAGE}"),
        check=lambda place: _verify(place, "root", IMAGE),
        before=lambda place: [_store(OLD_IMAGE)(place)],
        intact=lambda place: _verify(place, "root", OLD_IMAGE),
        peer="simulator",
        server=_proxy,
    ),
    Destination(
        "proxy: oci archive",
        _simulated("plugin.oci", f"name={IMAGE}", "proxy-dest=dest"),
        check=lambda place: _verify(place, "dest"),
        replaced="dest",
        peer="simulator",
        server=_proxy,
    ),
]
