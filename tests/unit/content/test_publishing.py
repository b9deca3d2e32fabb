"""Adding images to an index concurrently: no caller waits longer than necessary."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path
from unittest.mock import patch

import pytest

from exporter.content import publishing
from exporter.content.copy import copy_chain, write_blob
from exporter.content.layout import OCILayout
from exporter.content.lock import file_lock
from exporter.content.staging import Staging, replace_file
from exporter.errors import FailedPreconditionError, UnavailableError
from exporter.image import Descriptor
from exporter.image.keys import CONTAINERD_NAME
from exporter.image.media_types import OCI_MANIFEST
from tests.unit.content.images import describe, image


async def layout_with_image(path: Path) -> tuple[OCILayout, Descriptor]:
    layout = await OCILayout.open(path)
    store, root = image()
    await copy_chain(layout, store, root)
    return layout, root


def names(path: Path) -> list[str]:
    entries = json.loads((path / "index.json").read_bytes())["manifests"]
    return [entry["annotations"][CONTAINERD_NAME] for entry in entries]


async def test_waiting_names_are_added_with_one_write(tmp_path: Path) -> None:
    layout, root = await layout_with_image(tmp_path)
    wanted = [f"example.com/app:{number}" for number in range(40)]
    with patch.object(publishing, "replace_file", wraps=replace_file) as written:
        await asyncio.gather(*(layout.publish(root, [name]) for name in wanted))
    assert names(tmp_path) == wanted
    assert written.call_count < 5


async def test_an_entry_that_fails_does_not_affect_others(tmp_path: Path) -> None:
    layout, root = await layout_with_image(tmp_path)
    absent = describe(b"absent", OCI_MANIFEST)
    calls = [
        layout.publish(absent if number % 3 == 1 else root, [f"e.com/a:{number}"]) for number in range(9)
    ]
    results = await asyncio.gather(*calls, return_exceptions=True)
    assert [isinstance(result, FailedPreconditionError) for result in results] == [
        n % 3 == 1 for n in range(9)
    ]
    assert names(tmp_path) == [f"e.com/a:{number}" for number in range(9) if number % 3 != 1]


@pytest.mark.parametrize("victim", [0, 1, 2])
async def test_a_cancelled_call_adds_nothing_later(tmp_path: Path, victim: int) -> None:
    """A caller cancelled while it waits for the lock; the others' entries are still added."""
    layout, root = await layout_with_image(tmp_path)
    async with file_lock(tmp_path / "index.json.lock", transient=True):
        tasks = [asyncio.create_task(layout.publish(root, [f"e.com/a:{number}"])) for number in range(3)]
        await asyncio.sleep(0.05)
        tasks[victim].cancel()
        with pytest.raises(asyncio.CancelledError):
            await tasks[victim]
    await asyncio.gather(*tasks, return_exceptions=True)
    assert names(tmp_path) == [f"e.com/a:{number}" for number in range(3) if number != victim]


async def test_cancellation_waits_until_the_index_is_written(tmp_path: Path) -> None:
    layout, root = await layout_with_image(tmp_path)
    tasks: list[asyncio.Task[None]] = []
    loop = asyncio.get_running_loop()

    def cancelling(staging: Staging, path: Path, data: bytes) -> None:
        for task in tasks:
            loop.call_soon_threadsafe(task.cancel)
        replace_file(staging, path, data)

    with patch.object(publishing, "replace_file", cancelling):
        tasks += [asyncio.create_task(layout.publish(root, [f"e.com/a:{number}"])) for number in range(3)]
        results = await asyncio.gather(*tasks, return_exceptions=True)
        on_disk = names(tmp_path)
    assert all(isinstance(result, asyncio.CancelledError) for result in results)
    assert on_disk == ["e.com/a:0", "e.com/a:1", "e.com/a:2"]


async def test_a_failed_write_fails_its_callers(tmp_path: Path) -> None:
    layout, root = await layout_with_image(tmp_path)
    await layout.publish(root, ["e.com/a:before"])
    with patch.object(publishing, "replace_file", side_effect=OSError(28, "No space left on device")):
        results = await asyncio.gather(
            *(layout.publish(root, [f"e.com/a:{number}"]) for number in range(3)), return_exceptions=True
        )
    assert all(isinstance(result, OSError) for result in results)
    await layout.publish(root, ["e.com/a:after"])
    assert names(tmp_path) == ["e.com/a:before", "e.com/a:after"], "nothing of the failed change is left"


async def test_a_lock_that_stays_held_fails_the_callers(tmp_path: Path) -> None:
    layout, root = await layout_with_image(tmp_path)
    with patch.object(
        layout._publisher, "_locked", lambda: file_lock(tmp_path / "index.json.lock", timeout=0)
    ):
        async with file_lock(tmp_path / "index.json.lock", transient=True):
            results = await asyncio.gather(
                *(layout.publish(root, [f"e.com/a:{number}"]) for number in range(3)), return_exceptions=True
            )
        assert all(isinstance(result, UnavailableError) for result in results)
    await layout.publish(root, ["e.com/a:after"])
    assert names(tmp_path) == ["e.com/a:after"]


async def test_changes_by_other_programs_are_seen(tmp_path: Path) -> None:
    """Replaced, as by BuildKit's client, or written in place, as by careless tools."""
    layout, root = await layout_with_image(tmp_path)
    await layout.publish(root, ["e.com/a:ours"])
    index = tmp_path / "index.json"
    theirs = index.read_bytes().replace(b"a:ours", b"a:thei").replace(b'"ours"', b'"thei"')
    replacement = tmp_path / "replacement"
    replacement.write_bytes(theirs)
    replacement.rename(index)
    await layout.publish(root, ["e.com/a:more"])
    assert names(tmp_path) == ["e.com/a:thei", "e.com/a:more"]
    data = index.read_bytes().replace(b"a:more", b"a:last").replace(b'"more"', b'"last"')
    with index.open("r+b") as file:
        file.write(data)
    later = index.stat().st_mtime_ns + 1_000_000
    os.utime(index, ns=(later, later))
    assert (await layout.resolve("e.com/a:last")).digest == root.digest
    await layout.publish(root, ["e.com/a:end"])
    assert names(tmp_path) == ["e.com/a:thei", "e.com/a:last", "e.com/a:end"]


async def test_two_layouts_of_one_directory(tmp_path: Path) -> None:
    one, root = await layout_with_image(tmp_path)
    other = await OCILayout.open(tmp_path)
    calls = [
        layout.publish(root, [f"e.com/{key}:{n}"])
        for key, layout in (("a", one), ("b", other))
        for n in range(20)
    ]
    await asyncio.gather(*calls)
    assert sorted(names(tmp_path)) == sorted(f"e.com/{key}:{n}" for key in "ab" for n in range(20))


async def test_pruning_waits_for_publications(tmp_path: Path) -> None:
    layout, root = await layout_with_image(tmp_path)
    await layout.publish(root, ["e.com/a:first"])
    loose = await write_blob(layout, b"loose")
    results = await asyncio.gather(
        *(layout.publish(root, [f"e.com/a:{number}"]) for number in range(10)), layout.prune()
    )
    assert [blob.digest for blob in results[-1] or []] == [loose.digest]
    assert len(names(tmp_path)) == 11
