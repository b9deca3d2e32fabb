"""The bytes of layers: decompression, conversion, timestamps, Go's tar, and the files in them.

Works in threads on streams, with bounded memory. It knows neither images nor where a blob comes from:
it is given a provider and descriptors.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from exporter.layer.tools import *  # noqa: F403 (what is in its `__all__`)
else:
    from exporter.lazy import names_of

    __getattr__, __dir__ = names_of(__name__, "exporter.layer.tools")
