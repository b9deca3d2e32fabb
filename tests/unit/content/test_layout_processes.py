"""A layout that several processes use, some of which die."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

from exporter.content import OCILayout, copy_chain
from tests.unit.content.images import files_below, image, names_in

_KILLED_WRITER = """
import asyncio, sys
from exporter.content import OCILayout

async def main():
    layout = await OCILayout.open(sys.argv[1])
    async with layout.ingest() as writer:
        await writer.write(b"x" * (1 << 21))
        print("written", flush=True)
        await asyncio.Event().wait()

asyncio.run(main())
"""

_PUBLISHER = """
import asyncio, sys
from exporter.content import MemoryStore, OCILayout, copy_chain
from tests.unit.content.images import image

async def main(path, number):
    layout = await OCILayout.open(path)
    for turn in range(5):
        provider, root = image(f"{turn}")
        await copy_chain(layout, provider, root)
        await layout.publish(root, ["example.com/shared:v1", f"example.com/own:{number}-{turn}"])

asyncio.run(main(sys.argv[1], sys.argv[2]))
"""


def _start(program: str, *arguments: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", program, *arguments], stdout=subprocess.PIPE)


async def test_a_killed_writer_leaves_nothing_that_can_be_seen_or_stays(tmp_path: Path) -> None:
    before = files_below(OCILayout(tmp_path).path)
    with _start(_KILLED_WRITER, str(tmp_path)) as writer:
        assert writer.stdout is not None
        assert writer.stdout.readline() == b"written\n"
        layout = await OCILayout.open(tmp_path)
        assert await layout.blobs() == []
        assert files_below(tmp_path) != before, "opening a layout must not take away what others write"
        writer.send_signal(signal.SIGKILL)
    assert await layout.blobs() == []
    OCILayout(tmp_path)
    assert files_below(tmp_path) == before


async def test_processes_that_make_fill_and_name_one_layout_lose_nothing(tmp_path: Path) -> None:
    path = tmp_path / "layout"
    publishers = [_start(_PUBLISHER, str(path), str(number)) for number in range(4)]
    assert [publisher.wait() for publisher in publishers] == [0] * 4
    for publisher in publishers:
        publisher.communicate()
    layout = await OCILayout.open(path, create=False)
    names = [entry.annotations["io.containerd.image.name"] for entry in await layout.index()]
    assert sorted(names) == sorted(
        ["example.com/shared:v1"] + [f"example.com/own:{n}-{turn}" for n in range(4) for turn in range(5)]
    )
    provider, root = image("4")
    assert (await layout.resolve("example.com/shared:v1")).digest == root.digest
    await copy_chain(provider, layout, root)
    assert names_in(path) == ["blobs", "index.json", "oci-layout"]
    assert len(await layout.blobs()) == 2 + 5 * 2
