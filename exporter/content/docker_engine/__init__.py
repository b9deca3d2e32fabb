"""A Docker engine (dockerd) as a destination: images are loaded and tagged through its API."""

from exporter.content.docker_engine.address import EngineAddress, find_engine
from exporter.content.docker_engine.engine import DockerEngine, ImageLoad, LoadedImage
from exporter.content.docker_engine.messages import LayerProgress

__all__ = ["DockerEngine", "EngineAddress", "ImageLoad", "LayerProgress", "LoadedImage", "find_engine"]
