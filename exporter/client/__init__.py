"""BuildKit from Python: builds, their events and records, on a buildkitd or in a Docker engine.

`Client` is for programs; `exporter.client.sync` has the same without an event loop. `BuildkitClient` is the
layer below it, close to the daemon's API.

This package is public: names here are stable. It does not know flags or the proxy, and does not print.
`exporter.takeover` runs our exports inside a build.

Names are loaded on first access, because commands need few of them.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from exporter.client.names import *  # noqa: F403 (what is in its `__all__`)
else:
    from exporter.lazy import names_of

    __getattr__, __dir__ = names_of(__name__, "exporter.client.names")
