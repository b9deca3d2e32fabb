"""BuildKit exporters outside the daemon.

This is the face of the SDK: what a new kind of output needs. A minimal one::

    from exporter import ArtifactKind, ExportContext, Exporter, ExportResult, Source

    class CountExporter(Exporter):
        type = "count"
        title = "Says how many layers there are"
        artifact = ArtifactKind.NONE

        @property
        def name(self) -> str:
            return "counting layers"

        async def export(self, source: Source, context: ExportContext) -> ExportResult:
            ref = source.ref
            layers = len((await ref.remote()).descriptors) if ref else 0
            return ExportResult(response={"layers": str(layers)})

The parts behind it: `exporter.image` computes images (bytes in, bytes out), `exporter.content` holds blobs,
`exporter.layer` changes the bytes of layers, `exporter.testing` helps to test an exporter. Names are loaded
on first access, so importing the package is cheap.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from exporter.face import *  # noqa: F403 (what is in its `__all__`)
else:
    from exporter.lazy import names_of

    __getattr__, __dir__ = names_of(__name__, "exporter.face")
