"""A Docker engine (dockerd) as a destination: images are loaded and tagged through its API.

`exporter.remotes.docker_engine.engine` does that. It is not loaded from here: the HTTP library takes longer
to load than everything else that many commands need.
"""

from exporter.remotes.docker_engine.address import EngineAddress, find_engine
from exporter.remotes.docker_engine.messages import LayerProgress

__all__ = ["EngineAddress", "LayerProgress", "find_engine"]
