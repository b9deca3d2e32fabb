"""``buildkit-exporter images`` as a user meets it."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import pytest

from exporter.cli.main import main
from exporter.source.samples import write_sample
from tests.builds import read_json, scenario

Output = pytest.CaptureFixture[str]

HEADER = ["NAME", "DIGEST", "IMAGE", "ID", "PLATFORMS", "CREATED", "SIZE"]


def export(root: Path, name: str, output: str) -> None:
    words = ["--root", str(root), "--source", str(scenario(name)), "--progress", "quiet"]
    assert main(["export", *words, "--output", output]) == 0


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A store with an image of two names, an index without a name, and an image as dockerd has it."""
    path = tmp_path / "root"
    export(path, "run-chain", 'type=image,"name=example.com/app:v1,example.com/app:latest"')
    export(path, "provenance-multi-max", "type=image")
    export(path, "moby-run-chain", "type=moby,name=app")
    return path


def blob(root: Path, digest: str) -> Path:
    return root / "oci" / "blobs" / "sha256" / digest.removeprefix("sha256:")


def test_list(capsys: Output, root: Path) -> None:
    assert main(["images", "--root", str(root)]) == 0
    header, *rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert header == HEADER
    image = read_json("run-chain", "result.json")["exporter_response"]
    manifest, config = image["containerimage.digest"][7:19], image["containerimage.config.digest"][7:19]
    result = read_json("provenance-multi-max", "result.json")["exporter_response"]
    moby = read_json("moby-run-chain", "result.json")["exporter_response"]["containerimage.digest"][7:19]
    assert [row[:-3] for row in rows] == [
        ["docker.io/library/app:latest", "-", moby, "linux/amd64"],
        ["example.com/app:latest", manifest, config, "linux/amd64"],
        ["example.com/app:v1", manifest, config, "linux/amd64"],
        ["<none>", result["containerimage.digest"][7:19], "-", "linux/amd64,", "linux/arm64"],
    ]


def on_terminal(monkeypatch: pytest.MonkeyPatch, width: int) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    for name, value in {"COLUMNS": str(width), "TERM": "xterm", "NO_COLOR": "1"}.items():
        monkeypatch.setenv(name, value)


@pytest.mark.parametrize("width", [40, 80, 100])
def test_a_narrow_terminal_breaks_no_names(
    capsys: Output, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, width: int
) -> None:
    export(tmp_path, "run-chain", "type=image,name=registry.example.com/app:v1")
    on_terminal(monkeypatch, width)
    assert main(["images", "--root", str(tmp_path)]) == 0
    response = read_json("run-chain", "result.json")["exporter_response"]
    _, row = capsys.readouterr().out.splitlines()
    assert "registry.example.com/app:v1" in row
    assert response["containerimage.config.digest"][7:19] in row
    assert (response["containerimage.digest"][7:19] in row) == (width == 100)


def test_images_without_an_id_show_their_digest(
    capsys: Output, monkeypatch: pytest.MonkeyPatch, root: Path
) -> None:
    on_terminal(monkeypatch, 40)
    assert main(["images", "--root", str(root)]) == 0
    response = read_json("provenance-multi-max", "result.json")["exporter_response"]
    assert response["containerimage.digest"][7:19] in capsys.readouterr().out


def test_nothing_is_shortened_on_request(capsys: Output, root: Path) -> None:
    assert main(["images", "--root", str(root), "--no-trunc"]) == 0
    row = capsys.readouterr().out.splitlines()[2].split()
    image = read_json("run-chain", "result.json")["exporter_response"]
    assert row[1:3] == [image["containerimage.digest"], image["containerimage.config.digest"]]
    assert row[4].endswith("Z")


def test_json_has_the_platforms_one_by_one(capsys: Output, root: Path) -> None:
    assert main(["images", "--root", str(root), "--json"]) == 0
    moby, image, index = json.loads(capsys.readouterr().out)
    assert moby["digest"] is None and moby["names"] == ["docker.io/library/app:latest"]
    assert image["names"] == ["example.com/app:v1", "example.com/app:latest"]
    blobs = json.loads(blob(root, image["digest"]).read_bytes())
    sizes = [item["size"] for item in (blobs["config"], *blobs["layers"])]
    assert image["size"] == blob(root, image["digest"]).stat().st_size + sum(sizes)
    assert [entry["platform"]["architecture"] for entry in index["platforms"]] == ["amd64", "arm64"]
    assert index["id"] is None and index["names"] == [] and index["problem"] is None


def test_a_damaged_image_does_not_hide_the_others(capsys: Output, root: Path) -> None:
    manifest = read_json("run-chain", "result.json")["exporter_response"]["containerimage.digest"]
    blob(root, manifest).unlink()
    assert main(["images", "--root", str(root)]) == 0
    out, err = capsys.readouterr()
    assert len(out.splitlines()) == 5
    assert err == (
        f"warning: example.com/app:v1, example.com/app:latest: blob {manifest} not found\n"
        f"'buildkit-exporter verify {root}' shows all that is wrong\n"
    )


def test_before_the_first_export_there_is_nothing(
    capsys: Output, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    assert main(["images"]) == 0
    shown = capsys.readouterr()
    # Versions of rich leave different spaces between the columns of an empty table.
    assert (" ".join(shown.out.split()), shown.err) == ("NAME DIGEST IMAGE ID PLATFORMS CREATED SIZE", "")
    assert not (tmp_path / "data").exists()


def test_places_that_are_not_a_store(capsys: Output, tmp_path: Path) -> None:
    source = tmp_path / "source"
    write_sample(source)
    (tmp_path / "empty").mkdir()
    inspect = "'buildkit-exporter inspect {}' shows what is in it"
    for place, status, text in (
        (tmp_path / "nothing", 1, "error: there is no image store {}: the directory does not exist"),
        (tmp_path / "empty", 2, "{} is not an image store: it has no file oci/oci-layout, which the first"),
        (source, 2, f"{{}} is a saved source and not an image store; {inspect}"),
        (source / "oci", 2, f"{{}} is an OCI layout and not an image store; {inspect}"),
        (source / "source.json", 2, f"{{}} is a file and not an image store; {inspect}"),
    ):
        assert main(["images", "--root", str(place)]) == status
        assert text.format(place, place) in capsys.readouterr().err


@pytest.mark.parametrize("command", ["prune", "export"])
def test_a_saved_source_is_not_taken_for_a_store(capsys: Output, tmp_path: Path, command: str) -> None:
    source = tmp_path / "source"
    write_sample(source)
    before = sorted(path.relative_to(source) for path in source.rglob("*"))
    words = ["--keep-duration", "0"] if command == "prune" else ["--source", str(source), "-o", "type=image"]
    assert main([command, "--root", str(source), *words]) == 1
    error = f"error: {source} is a saved source and not an image store: choose another directory\n"
    assert capsys.readouterr().err.endswith(error)
    assert sorted(path.relative_to(source) for path in source.rglob("*")) == before


def test_a_store_that_cannot_be_written_is_listed(capsys: Output, root: Path) -> None:
    for path in (root, *root.rglob("*")):
        path.chmod(0o555 if path.is_dir() else 0o444)
    try:
        assert main(["images", "--root", str(root)]) == 0
    finally:
        for path in (root, *root.rglob("*")):
            path.chmod(0o755 if path.is_dir() else 0o644)
        shutil.rmtree(root)
    assert len(capsys.readouterr().out.splitlines()) == 5
