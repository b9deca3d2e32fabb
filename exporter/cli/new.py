"""The command ``new``."""

from __future__ import annotations

import keyword
import re
import sys
from pathlib import Path

from exporter.cli.commands.new import NewArgs
from exporter.cli.failures import ExitCode, UsageError
from exporter.cli.package_template import package_files
from exporter.errors import FailedPreconditionError, os_error_text
from exporter.exporters.registry import default_registry

_NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")
_LONGEST = 64


def run_new(options: NewArgs) -> int:
    """Write a package with an exporter.

    Raises:
        UsageError: the name is invalid, or the directory is not empty.
        FailedPreconditionError: the directory is not writable.
    """
    name = options.name
    check_name(name)
    directory = options.directory if options.directory is not None else Path(name)
    try:
        directory.mkdir(parents=True, exist_ok=True)
        if any(directory.iterdir()):
            raise UsageError(f"{directory} is not empty: choose a new or empty directory")
        for path, text in package_files(name).items():
            target = directory / path
            target.parent.mkdir(parents=True, exist_ok=True)
            with target.open("x", encoding="utf-8") as file:
                file.write(text)
    except (FileExistsError, NotADirectoryError) as error:
        raise UsageError(f"{directory} is not a directory") from error
    except OSError as error:
        raise FailedPreconditionError(
            f"the package cannot be written to {directory}: {os_error_text(error)}"
        ) from error
    print(f"{directory}: a package with an exporter of type {name}; its README.md says how to go on")
    return ExitCode.OK


def check_name(name: str) -> None:
    """Check that a name is valid for a package, a module (with underscores), and a type.

    Raises:
        UsageError: the name is invalid.
    """
    if _NAME.fullmatch(name) is None or len(name) > _LONGEST:
        suggestion = re.sub(r"[-_.\s]+", "-", re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "-", name)).strip("-").lower()
        hint = (
            f", such as {suggestion}" if _NAME.fullmatch(suggestion) and len(suggestion) <= _LONGEST else ""
        )
        raise UsageError(
            f"{name!r} cannot be the name of a package and of a type: use lower-case letters, digits and "
            f"single hyphens, beginning with a letter{hint}"
        )
    module = name.replace("-", "_")
    if keyword.iskeyword(module) or keyword.issoftkeyword(module):
        raise UsageError(f"{name} cannot be the name of a package: {module} is a keyword of Python")
    if module in sys.stdlib_module_names or module in {"exporter", "tests"}:
        raise UsageError(f"{name} cannot be the name of a package: there is a module {module} already")
    if name in default_registry().types:
        raise UsageError(f"{name} cannot be the name of a type: it exists already")
