"""The embedded store after a while: ``prune`` removes what no image needs, and nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.builds import scenario
from tests.integration.cli_process import Result, run


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "root"


def export(root: Path, name: str, output: str) -> None:
    words = ("--source", str(scenario(name)), "--root", str(root), "--progress", "quiet", "-o", output)
    result = run(root.parent, "export", *words)
    assert result.status == 0, result.err


def prune(root: Path, *words: str) -> list[str]:
    result: Result = run(root.parent, "prune", "--root", str(root), *words)
    assert result.status == 0, result.err
    return result.out.decode().splitlines()


def verify(root: Path) -> Result:
    return run(root.parent, "verify", str(root))


def blobs(root: Path) -> set[str]:
    return {f"sha256:{path.name}" for path in (root / "oci" / "blobs" / "sha256").iterdir()}


def test_an_image_whose_name_has_moved(root: Path) -> None:
    export(root, "run-chain", "type=image,name=example.com/app:v1")
    old = blobs(root)
    export(root, "multi-stage", "type=image,name=example.com/app:v1")
    assert prune(root) == ["Total: 0B"]  # it is new
    head, *lines, total = prune(root, "--keep-duration", "0")
    assert head.split() == ["DIGEST", "SIZE"]
    assert {line.split()[0] for line in lines if line} == old - blobs(root)
    assert total.startswith("Total: ")
    assert blobs(root) - old
    assert verify(root).status == 0
    assert prune(root, "--keep-duration", "0") == ["Total: 0B"]


def test_images_without_a_name(root: Path) -> None:
    export(root, "scratch-copy", "type=image")
    export(root, "moby-run-chain", "type=moby,name=app:v1")
    export(root, "moby-scratch-copy", "type=moby")
    assert prune(root, "--keep-duration", "0") == ["Total: 0B"]
    assert prune(root, "--all") == ["Total: 0B"]
    assert len(prune(root, "--all", "--keep-duration", "0")) > 4
    assert verify(root).status == 0
    kept = run(root.parent, "inspect", str(root)).out.decode()
    assert "docker.io/library/app:v1" in kept
    assert "(no name)" not in kept


def test_no_store(root: Path) -> None:
    result = run(root.parent, "prune", "--root", str(root))
    assert result.status == 1
    assert result.err == f"error: there is no image store {root}: the directory does not exist\n"
    assert not root.exists()
