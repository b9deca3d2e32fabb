"""Build contexts: what the daemon is offered for them."""

from __future__ import annotations

import io
import os
import tarfile
from pathlib import Path

import pytest

from exporter.client import MemoryFile, MemoryFiles, NamedContext
from exporter.client.contexts import open_contexts
from exporter.errors import InvalidArgumentError, NotFoundError


async def test_a_directory_has_its_dockerfile(tmp_path: Path) -> None:
    (tmp_path / "dockerfile").touch()
    async with open_contexts(tmp_path) as opened:
        assert opened.directories == {"context": tmp_path, "dockerfile": tmp_path}
        assert opened.attrs == {"filename": "dockerfile"}
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "Other").touch()
    async with open_contexts(str(tmp_path), "sub/Other") as opened:
        assert opened.directories["dockerfile"] == tmp_path / "sub"
        assert opened.attrs == {"filename": "Other"}


async def test_files_in_memory_are_the_same_each_time(tmp_path: Path) -> None:
    files: MemoryFiles = {
        "Dockerfile": "FROM scratch",
        "bin/tool": MemoryFile(b"\x00", 0o755),
        "a/b/c": b"\xff",
    }
    previous = os.umask(0o077)
    try:
        async with open_contexts(files) as opened:
            root = opened.directories["context"]
            found = {
                str(path.relative_to(root)): (path.stat().st_mode & 0o777, path.stat().st_mtime)
                for path in root.rglob("*")
            }
            assert (root / "a/b/c").read_bytes() == b"\xff"
    finally:
        os.umask(previous)
    assert found == {
        "Dockerfile": (0o644, 0),
        "bin": (0o755, 0),
        "bin/tool": (0o755, 0),
        "a": (0o755, 0),
        "a/b": (0o755, 0),
        "a/b/c": (0o644, 0),
    }
    assert not root.exists()


@pytest.mark.parametrize("name", ["../a", "/a", "", "a/../../b", "a\0b"])
async def test_files_in_memory_stay_in_the_context(name: str) -> None:
    with pytest.raises(InvalidArgumentError, match="is not a path in the context"):
        async with open_contexts({"Dockerfile": "", name: "x"}):
            pass


async def test_a_name_cannot_be_a_file_and_a_directory() -> None:
    with pytest.raises(InvalidArgumentError, match="'a/b' is a file and a directory"):
        async with open_contexts({"Dockerfile": "", "a": "x", "a/b": "y"}):
            pass


async def test_archives_are_streams(tmp_path: Path) -> None:
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w"):
        pass
    path = tmp_path / "context.tar"
    path.write_bytes(data.getvalue())
    for context in (path, str(path), io.BytesIO(data.getvalue())):
        async with open_contexts(context, "sub/Dockerfile") as opened:
            assert opened.attrs["context"].startswith("http://buildkit-session/")
            assert opened.attrs["filename"] == "sub/Dockerfile"
            assert len(opened.services) == 1


@pytest.mark.parametrize(
    ("url", "needs_agent"),
    [
        ("https://host/repo.git#main", False),
        ("git@host:repo.git", True),
        ("ssh://git@host/repo", True),
        ("github.com/a/b", False),
    ],
)
async def test_urls_are_for_the_daemon(url: str, needs_agent: bool) -> None:
    async with open_contexts(url, dockerfile_inline="FROM x") as opened:
        assert opened.attrs == {"context": url, "filename": "Dockerfile", "dockerfilekey": "dockerfile"}
        assert (opened.directories["dockerfile"] / "Dockerfile").read_text() == "FROM x"
        assert opened.needs_agent is needs_agent


async def test_more_contexts(tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").touch()
    contexts: dict[str, NamedContext] = {
        "dir": tmp_path,
        "files": {"a": "1"},
        "image": "docker-image://busybox",
        "stage": "target:base",
    }
    async with open_contexts(tmp_path, contexts=contexts) as opened:
        attrs = {key: value for key, value in opened.attrs.items() if key.startswith("context:")}
        assert attrs == {
            "context:dir": "local:dir",
            "context:files": "local:files",
            "context:image": "docker-image://busybox",
            "context:stage": "target:base",
        }
        assert (opened.directories["files"] / "a").read_text() == "1"


async def test_what_is_missing_is_named(tmp_path: Path) -> None:
    async def reason(*arguments: object, **keywords: object) -> str:
        with pytest.raises((NotFoundError, InvalidArgumentError)) as failure:
            async with open_contexts(*arguments, **keywords):  # type: ignore[arg-type]
                pass
        return failure.value.message

    assert "there is no such directory or archive" in await reason(tmp_path / "none")
    assert f"there is no Dockerfile in {tmp_path}" in await reason(tmp_path)
    assert "there is no Dockerfile in the files in memory" in await reason({"a": "b"})
    assert f"dockerfile Other: there is no such file in {tmp_path}" in await reason(tmp_path, "Other")
    assert "contradict each other" in await reason(tmp_path, "a", "b")
    (tmp_path / "Dockerfile").touch()
    assert "contexts[x]: nowhere is neither" in await reason(tmp_path, contexts={"x": "nowhere"})
    assert "has no digest" in await reason(tmp_path, contexts={"x": "oci-layout:///a"})
