"""``buildkit-exporter verify`` as a user meets it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from exporter.cli.main import main
from tests.builds import scenario
from tests.unit.verify.layouts import ROOT, Tampered

Output = pytest.CaptureFixture[str]


@pytest.fixture
def tampered(tmp_path: Path) -> Callable[[str], Tampered]:
    return lambda name: Tampered(name, tmp_path)


def test_an_image_that_is_fine(capsys: Output) -> None:
    assert main(["verify", str(scenario("docker") / "oci")]) == 0
    out = capsys.readouterr().out.splitlines()
    assert "OBJECT    PLACE      DIGEST        CHECK       RESULT" in out
    assert out[-1] == "25 checks: no problems"


def test_a_problem_is_explained(capsys: Output, tampered: Callable[[str], Tampered]) -> None:
    layout = tampered("docker")
    layout.damage(*ROOT, "layers", 1)
    digest = layout.descriptor(*ROOT, "layers", 1)["digest"]
    assert main(["verify", str(layout.path)]) == 1
    out = capsys.readouterr().out.splitlines()
    [line] = [line for line in out if "problem:" in line]
    assert line.split()[:5] == ["layer", "layers[1]", digest[7:19], "digest", "problem:"]
    assert "its digest is actually sha256:" in line
    assert line.endswith("(export, pull or copy the image again)")
    assert out[-1] == "23 checks: 1 problem"


def test_quiet_omits_intact_images(capsys: Output, tampered: Callable[[str], Tampered]) -> None:
    assert main(["verify", "--quiet", str(scenario("docker") / "oci")]) == 0
    assert main(["verify", "-q", "--json", str(scenario("docker") / "oci")]) == 0
    assert capsys.readouterr() == ("", "")
    layout = tampered("docker")
    layout.damage(*ROOT, "layers", 1)
    assert main(["verify", "--quiet", str(layout.path)]) == 1
    _, header, problem, _, summary = capsys.readouterr().out.splitlines()
    assert header.split()[0] == "OBJECT"
    assert "layers[1]" in problem and "problem:" in problem
    assert summary == "23 checks: 1 problem"


def test_json_has_the_same_findings(capsys: Output, tampered: Callable[[str], Tampered]) -> None:
    layout = tampered("metadata-only")
    layout.change_index(lambda index: index["manifests"][0].update(size=5))
    assert main(["verify", "--json", str(layout.path)]) == 1
    document = json.loads(capsys.readouterr().out)
    assert {key: document[key] for key in ("ok", "problems", "notes")} == {
        "ok": False,
        "problems": 1,
        "notes": 2,
    }
    [problem] = [check for check in document["checks"] if check["result"] == "problem"]
    assert problem == {
        "object": "manifest",
        "image": "index.json manifests[0]",
        "path": "",
        "digest": layout.descriptor(*ROOT)["digest"],
        "check": "size",
        "result": "problem",
        "reason": None,
        "findings": [
            {
                "where": None,
                "what": "it has 288 bytes, but its descriptor says 5",
                "advice": "recreate the document that references it",
                "problem": True,
            }
        ],
    }


def test_problems_of_the_layout_itself(capsys: Output, tampered: Callable[[str], Tampered]) -> None:
    layout = tampered("docker")
    (layout.path / "oci-layout").unlink()
    (layout.path / "index.json").write_text('{"schemaVersion":2,"manifests":{}}')
    assert main(["verify", str(layout.path), "--json"]) == 1
    problems = [
        (check["path"], check["findings"][0]["what"])
        for check in json.loads(capsys.readouterr().out)["checks"]
        if check["result"] == "problem"
    ]
    assert problems == [("oci-layout", "it is missing"), ("index.json", "an object instead of array")]


def test_a_blob_that_no_image_needs_is_verified_too(
    capsys: Output, tampered: Callable[[str], Tampered]
) -> None:
    layout = tampered("docker")
    other = layout.blob("sha256:" + "0" * 64)
    other.write_bytes(b"something")
    assert main(["verify", str(layout.path)]) == 1
    assert "(of no image)" in capsys.readouterr().out
    name = json.loads((layout.path / "index.json").read_bytes())["manifests"][0]["annotations"]
    assert main(["verify", str(layout.path), name["io.containerd.image.name"]]) == 0


def test_only_one_image_or_platform(capsys: Output) -> None:
    place = str(scenario("multi-platform") / "oci")
    assert main(["verify", "--platform", "linux/arm64", "--json", place]) == 0
    checks = json.loads(capsys.readouterr().out)["checks"]
    skipped = {check["path"] for check in checks if check["result"] == "skipped"}
    assert skipped == {"manifests[0]"}
    assert not any(check["path"].startswith("manifests[0].") for check in checks)
    assert main(["verify", place, "nobody"]) == 1
    assert "there is no image nobody" in capsys.readouterr().err


def test_the_embedded_store(capsys: Output, tmp_path: Path) -> None:
    root = tmp_path / "root"
    for name, output in (("run-chain", "type=image,name=a:1"), ("moby-run-chain", "type=moby,name=b:1")):
        words = ["export", "--source", str(scenario(name)), "--output", output, "--root", str(root)]
        assert main([*words, "--progress", "quiet"]) == 0
    capsys.readouterr()
    assert main(["verify", str(root)]) == 0
    out = capsys.readouterr().out.splitlines()
    assert {"a:1", "docker.io/library/b:1"} <= set(out)
    blobs = root / "oci" / "blobs" / "sha256"
    largest = max(blobs.iterdir(), key=lambda path: path.stat().st_size)
    largest.chmod(0o600)
    largest.write_bytes(largest.read_bytes()[::-1])
    assert main(["verify", str(root), "b"]) == 1


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (
            ["/no/such/thing"],
            "there is no file or directory /no/such/thing, and it is not the name of an image",
        ),
        (["--platform", "a/b/c/d", "x"], "invalid value a/b/c/d for --platform"),
        (["--containerd-namespace", "x", "y"], "--containerd-namespace needs --containerd"),
        (["--containerd", "c.sock", "x"], "--containerd: 'c.sock' is not the address of a containerd"),
        (["--containerd", "/c", "x", "y"], "IMAGE chooses among the images of a directory or archive"),
    ],
)
def test_places_without_images_are_refused(capsys: Output, words: list[str], text: str) -> None:
    assert main(["verify", *words]) == (1 if words[0].startswith("/no") else 2)
    assert text in capsys.readouterr().err


def test_a_saved_source_is_not_an_image(capsys: Output) -> None:
    assert main(["verify", str(scenario("docker"))]) == 2
    assert "is a saved source" in capsys.readouterr().err


def test_digests_in_paths_are_shortened(capsys: Output, tmp_path: Path) -> None:
    archive = tmp_path / "image.tar"
    source = str(scenario("docker"))
    assert main(["export", "--source", source, "--output", f"type=docker,dest={archive}"]) == 0
    assert main(["verify", str(archive)]) == 0
    short = [line for line in capsys.readouterr().out.splitlines() if "  blobs/sha256/" in line]
    assert short
    for line in short:
        _, path, digest, *_ = line.split()
        assert path == f"blobs/sha256/{digest}"
        assert len(digest) == 12
    assert main(["verify", "--no-trunc", str(archive)]) == 0
    for line in capsys.readouterr().out.splitlines():
        if "  blobs/sha256/" in line:
            _, path, digest, *_ = line.split()
            assert digest == f"sha256:{path.removeprefix('blobs/sha256/')}"
