"""What happens to the bytes of layers: conversion, timestamp rewriting, and reading the files in them."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from exporter.layer.tools import *  # noqa: F403 (what is in its `__all__`)
else:
    from exporter.lazy import names_of

    __getattr__, __dir__ = names_of(__name__, "exporter.layer.tools")
