"""Names that are imported on demand, so that importing a module or a package stays cheap."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any


def named(path: str) -> Any:
    """Import what ``module:name`` names.

    For tables of implementations, and for the few calls to code that itself depends on the caller.
    """
    module, name = path.split(":")
    return getattr(importlib.import_module(module), name)


def names_of(package: str, module: str) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """Offer the public names of a module as those of a package.

    Args:
        package: Its name.
        module: Has the names, and says in ``__all__`` which ones.

    Returns:
        The package's ``__getattr__`` and ``__dir__``.
    """

    def get(name: str) -> Any:
        if name != "__all__" and name.startswith("__"):  # what Python looks for in any module
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        names = importlib.import_module(module)
        if name != "__all__" and name not in names.__all__:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(names, name)

    def names() -> list[str]:
        return list(importlib.import_module(module).__all__)

    return get, names
