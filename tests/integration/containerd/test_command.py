"""containerd as users reach it: from the command line, and through a server whose operator configured it."""

from __future__ import annotations

from pathlib import Path

import pytest

from exporter.cli.main import main
from exporter.content.copy import write_blob
from exporter.image import Descriptor, digest_bytes
from exporter.remotes.containerd import Containerd
from tests.builds import read_json, scenario
from tests.integration.cli_process import run, server
from tests.integration.containerd.exporting import Namespace
from tests.integration.containerd_peer import containerd
from tests.integration.fakedaemon.harness import Daemon, Server
from tests.integration.fakedaemon.requests import TAR, export_request, inline_ref

CONFIG = {"os": "linux", "architecture": "amd64"}


def options(place: Namespace) -> list[str]:
    return ["--containerd", place.peer.socket, "--containerd-namespace", place.name]


@pytest.mark.parametrize("where", ["here", "on a server"])
def test_exports_are_stored_and_can_be_verified(place: Namespace, tmp_path: Path, where: str) -> None:
    words = ["export", "--source", str(scenario("run-chain")), "--progress", "plain"]
    words += ["--output", "type=image,name=example.com/a:1,unpack=true"]
    if where == "here":
        done = run(tmp_path, *words, *options(place))
    else:
        with server(tmp_path, *options(place)) as address:
            done = run(tmp_path, *words, "--addr", address)
    assert done.status == 0, done.err
    assert "naming to example.com/a:1" in done.err
    assert "unpacking to example.com/a:1" in done.err
    digest = read_json("run-chain", "result.json")["exporter_response"]["containerimage.digest"]
    assert place.images() == {"example.com/a:1": digest}
    assert place.check() == {"example.com/a:1": "complete"}
    assert place.leases() == set()
    verified = run(tmp_path, "verify", "example.com/a:1", *options(place))
    assert (verified.status, verified.err) == (0, "")


def test_nothing_is_done_in_containerd_for_an_archive(place: Namespace, tmp_path: Path) -> None:
    output = f"type=oci,dest={tmp_path}/image.tar"
    done = run(
        tmp_path, "export", "--source", str(scenario("run-chain")), "--output", output, *options(place)
    )
    assert done.status == 0, done.err
    assert (place.blobs(), place.leases()) == (set(), set())


def test_containerd_is_not_running(tmp_path: Path) -> None:
    source = str(scenario("run-chain"))
    words = ["export", "--source", source, "--output", "type=image,name=a", "--progress", "quiet"]
    done = run(tmp_path, *words, "--containerd", f"{tmp_path}/none")
    assert done.status == 1
    assert f"containerd at {tmp_path}/none" in done.err
    done = run(tmp_path, *words, "--containerd", "none")
    assert done.status == 2
    assert "--containerd: 'none' is not the address of a containerd" in done.err
    done = run(tmp_path, *words, "--containerd", "/none", "--addr", "unix:///none")
    assert done.status == 2


async def test_clients_cannot_choose_a_containerd(place: Namespace) -> None:
    """Such words are attributes that the exporter does not know."""
    attrs = {"name": "a", "containerd": place.peer.socket, "containerd-namespace": place.name}
    async with Server.running() as plugin, Daemon.connected(plugin.address) as daemon:
        outcome = await daemon.export(export_request("image", inline_ref(b"x"), attrs=attrs, config=CONFIG))
    assert outcome.code == "OK"
    assert place.blobs() == set()


async def test_existing_layers_need_not_be_sent(place: Namespace) -> None:
    """A daemon that has its layers in the same containerd need not send them."""
    layers = [b"first" * 100, b"second" * 100]
    async with Containerd.connect(place.peer.config(place.name)) as connection:
        for layer in layers:
            await write_blob(connection.content, layer, Descriptor(TAR, digest_bytes(layer), len(layer)))
    ref = inline_ref(*layers, embedded=False)
    async with Server.running(*options(place)) as plugin, Daemon.connected(plugin.address) as daemon:
        image = await daemon.export(export_request("image", ref, attrs={"name": "a"}, config=CONFIG))
        forced = {"compression": "gzip", "force-compression": "true", "name": "b"}
        converted = await daemon.export(export_request("image", ref, attrs=forced, config=CONFIG))
    assert (image.code, converted.code) == ("OK", "OK"), (image.message, converted.message)
    place.collect()
    assert place.check() == {"a": "complete", "b": "complete"}


async def test_a_server_finds_a_containerd_that_was_restarted(tmp_path: Path) -> None:
    with containerd() as peer:
        place = Namespace(peer, "restarted", tmp_path)
        request = export_request("image", inline_ref(b"x"), attrs={"name": "a"}, config=CONFIG)
        async with Server.running(*options(place)) as plugin, Daemon.connected(plugin.address) as daemon:
            assert (await daemon.export(request)).code == "OK"
            peer.kill()
            down = await daemon.export(request)
            assert (down.code, down.reason) == ("UNAVAILABLE", "UNAVAILABLE")
            assert "containerd" in down.message
            peer.start()
            while (await daemon.export(request)).code == "UNAVAILABLE":
                pass
        assert place.check() == {"a": "complete"}


def test_ctr_environment_variables_are_used(
    place: Namespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CONTAINERD_NAMESPACE", place.name)
    monkeypatch.setenv("CONTAINERD_SNAPSHOTTER", "native")
    words = ["export", "--source", str(scenario("run-chain")), "--progress", "quiet", "--root", str(tmp_path)]
    assert main([*words, "--output", "type=image,name=a,unpack=true", "--containerd", place.peer.socket]) == 0
    assert place.check() == {"a": "complete"}
    assert len(place.snapshots("native")) == 6
