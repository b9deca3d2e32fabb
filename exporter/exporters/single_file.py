"""Exporters in a single Python file, without a distribution (``--exporter-module FILE``)."""

from __future__ import annotations

import ast
import inspect
import re
import sys
import threading
import traceback
import types
from pathlib import Path

from exporter.errors import InvalidArgumentError, NotFoundError, os_error_text
from exporter.exporters.base import Exporter

__all__ = ["load_exporters"]

_LOADED: dict[Path, tuple[type[Exporter], ...]] = {}
_LOCK = threading.Lock()


def load_exporters(path: Path) -> tuple[type[Exporter], ...]:
    """Run a file, and return its exporters: the subclasses of `Exporter` that it defines.

    Abstract classes, and classes whose name begins with an underscore, are skipped. A file runs at most once
    per process. Nothing is written next to it.

    Raises:
        InvalidArgumentError: the file cannot be run, or does not define exporters; names file and line.
        NotFoundError: the file does not exist.
    """
    with _LOCK:
        key = path.resolve()
        if key not in _LOADED:
            _LOADED[key] = _load(path)
        return _LOADED[key]


def line_in(path: str, error: BaseException) -> int | None:
    """The line of a file that an exception points to: its innermost frame, or a syntax error; else None."""
    if isinstance(error, SyntaxError) and error.filename == path:
        return error.lineno
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == path]
    return lines[-1] if lines else None


def _load(path: Path) -> tuple[type[Exporter], ...]:
    try:
        source = path.read_bytes()
    except FileNotFoundError as error:
        raise NotFoundError(f"{path}: no such file") from error
    except OSError as error:
        raise InvalidArgumentError(f"{path} cannot be read: {os_error_text(error)}") from error
    stem = re.sub(r"\W", "_", path.stem)
    module = types.ModuleType(f"exporter_module_{len(_LOADED)}_{stem}")
    module.__file__ = str(path)
    sys.modules[module.__name__] = module  # dataclasses and annotations look up their module
    try:
        code = compile(source, str(path), "exec")
        exec(code, module.__dict__)
        return _exporters(path, source, module)
    except BaseException as error:  # third-party code can raise anything
        del sys.modules[module.__name__]
        in_main = threading.current_thread() is threading.main_thread()
        if isinstance(error, InvalidArgumentError) or (isinstance(error, KeyboardInterrupt) and in_main):
            raise
        line = line_in(str(path), error)
        where = f"{path}:{line}" if line is not None else str(path)
        text = error.msg if isinstance(error, SyntaxError) else str(error)
        name = type(error).__name__
        raise InvalidArgumentError(f"{where}: {name}: {text}" if text else f"{where}: {name}") from error


def _exporters(path: Path, source: bytes, module: types.ModuleType) -> tuple[type[Exporter], ...]:
    lines = {node.name: node.lineno for node in ast.parse(source).body if isinstance(node, ast.ClassDef)}
    found: dict[str, type[Exporter]] = {}
    for value in list(vars(module).values()):
        if not (isinstance(value, type) and issubclass(value, Exporter)) or value in found.values():
            continue
        name = value.__name__
        if value.__module__ != module.__name__ or name.startswith("_") or inspect.isabstract(value):
            continue
        where = f"{path}:{lines[name]}" if name in lines else str(path)
        for attribute in ("type", "title"):
            if not isinstance(getattr(value, attribute, None), str):
                raise InvalidArgumentError(
                    f'{where}: class {name} has no {attribute}: add {attribute} = "..." to it'
                )
        if value.type in found:
            other = found[value.type].__name__
            raise InvalidArgumentError(f'{where}: classes {other} and {name} are both of type "{value.type}"')
        found[value.type] = value
    if not found:
        raise InvalidArgumentError(f"{path}: there is no exporter in it: no subclass of exporter.Exporter")
    return tuple(found.values())
