"""Test support for exporters: build results, a workbench for running exports, and inspectable outputs.

It may import everything except the command line, and nothing imports it. It does not need a test framework,
daemon or network.

::

    from exporter.testing import MemoryLayer, Workbench, source_of

    async with Workbench.open() as bench:
        run = await bench.export(MyExporter({}), source_of(MemoryLayer({"etc/motd": b"hello"})))
        assert run.output.file_content == b"..."
"""

from exporter.testing.bench import Run, Workbench
from exporter.testing.blocking import BlockingWorkbench
from exporter.testing.checks import assert_image_valid, assert_reproducible
from exporter.testing.daemon import running_buildkitd
from exporter.testing.directories import DirectoryRef
from exporter.testing.output import MemoryLayout, MemoryOutput, PublishedImage, WrittenFile
from exporter.testing.progress import ProgressLog
from exporter.testing.registry import MemoryRegistry, PushedImage
from exporter.testing.sources import MemoryLayer, load_sample, ref_of, sample_names, source_of

__all__ = [
    "BlockingWorkbench",
    "DirectoryRef",
    "MemoryLayer",
    "MemoryLayout",
    "MemoryOutput",
    "MemoryRegistry",
    "ProgressLog",
    "PublishedImage",
    "PushedImage",
    "Run",
    "Workbench",
    "WrittenFile",
    "assert_image_valid",
    "assert_reproducible",
    "load_sample",
    "ref_of",
    "running_buildkitd",
    "sample_names",
    "source_of",
]
