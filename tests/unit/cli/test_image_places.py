"""Messages at the end of exports: where the images are."""

from __future__ import annotations

from pathlib import Path

import pytest

from exporter.cli.image_places import tell_image_places
from exporter.cli.main import main
from exporter.cli.outputs import Output
from exporter.engine.config import WorkplaceConfig
from exporter.remotes.containerd import ContainerdConfig
from tests.builds import read_json, scenario

Capture = pytest.CaptureFixture[str]

EMBEDDED = WorkplaceConfig(root=Path("/store"))
CONTAINERD = WorkplaceConfig(
    root=Path("/store"), containerd=ContainerdConfig(address="unix:///run/c.sock", namespace="builds")
)
RESPONSE = {"image.name": "example.com/frontend:v1", "containerimage.digest": "sha256:1234"}


@pytest.mark.parametrize(
    ("exporter_type", "attrs", "store", "text"),
    [
        ("image", {"name": "a:1"}, EMBEDDED, "stored a:1 in the image store /store\n"),
        ("image", {"name": "*"}, EMBEDDED, "stored example.com/frontend:v1 in the image store /store\n"),
        (
            "image",
            {"name": "a:1"},
            CONTAINERD,
            "stored a:1 in the containerd at /run/c.sock, namespace builds\n",
        ),
        ("moby", {"name": "a:1"}, CONTAINERD, "stored a:1 in the image store /store\n"),
        ("image", {"name": "a:1"}, "unix:///s", "stored a:1 in the store of the server at unix:///s\n"),
        ("image", {"name": "a:1", "store": "false"}, EMBEDDED, ""),
        ("image", {"name": "a:1", "store": "false", "push": "true"}, EMBEDDED, "pushed a:1\n"),
        ("registry", {"name": "a:1"}, EMBEDDED, "stored a:1 in the image store /store\npushed a:1\n"),
        ("oci", {"name": "a:1"}, EMBEDDED, ""),
        ("report", {"name": "a:1"}, EMBEDDED, ""),
    ],
)
def test_the_place_of_an_image_is_printed(
    capsys: Capture, exporter_type: str, attrs: dict[str, str], store: WorkplaceConfig | str, text: str
) -> None:
    tell_image_places([Output(exporter_type, attrs, None)], RESPONSE, store, progress="plain")
    assert capsys.readouterr() == ("", text)


@pytest.mark.parametrize(
    ("mode", "variable", "tells"),
    [
        ("plain", "", True),
        ("auto", "quiet", False),
        ("quiet", "", False),
        ("rawjson", "", False),
        ("tty", "quiet", True),
    ],
)
def test_nothing_is_printed_beside_machine_readable_progress(
    capsys: Capture, monkeypatch: pytest.MonkeyPatch, mode: str, variable: str, tells: bool
) -> None:
    monkeypatch.setenv("BUILDKIT_PROGRESS", variable)
    tell_image_places([Output("image", {}, None)], {}, EMBEDDED, progress=mode)
    assert bool(capsys.readouterr().err) is tells


def test_an_image_without_a_name_is_reported_by_its_digest(capsys: Capture, tmp_path: Path) -> None:
    words = ["--source", str(scenario("run-chain")), "--root", str(tmp_path)]
    assert main(["export", *words, "--output", "type=image"]) == 0
    digest = read_json("run-chain", "result.json")["exporter_response"]["containerimage.digest"]
    assert capsys.readouterr().err.endswith(f"\nstored {digest} in the image store {tmp_path}\n")


def test_an_image_without_a_name_is_not_said_to_be_pushed(capsys: Capture) -> None:
    output = Output("image", {"push": "true", "store": "false"}, None)
    tell_image_places([output], {"containerimage.digest": "sha256:" + 64 * "a"}, EMBEDDED, progress="plain")
    assert capsys.readouterr().err.startswith("warning: nothing was pushed: the image has no name")
