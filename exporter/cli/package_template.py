"""The files of a package with an exporter, as ``new`` writes them."""

from __future__ import annotations

from importlib import metadata
from string import Template

_PYPROJECT = """\
[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"

[project]
name = "$name"
version = "0.1.0"
description = "An exporter for BuildKit: the layers of a build"
readme = "README.md"
requires-python = ">=3.11"
dependencies = ["buildkit-exporter>=$version"]

[project.optional-dependencies]
dev = ["mypy", "pytest"]

[project.entry-points."buildkit_exporter.exporters"]
$name = "$module:$cls"

[tool.hatch.build.targets.wheel]
packages = ["src/$module"]

[tool.mypy]
strict = true
files = ["src", "tests"]
mypy_path = "src"

[tool.pytest.ini_options]
testpaths = ["tests"]
"""

_MODULE = '''\
"""An exporter that lists the layers of a build."""

from __future__ import annotations

from dataclasses import dataclass

from exporter import (
    ArtifactKind,
    ExportContext,
    Exporter,
    ExportResult,
    FailedPreconditionError,
    Source,
    option,
)


@dataclass(frozen=True)
class Options:
    """The attributes of the type $name."""

    min_size: int = option(default=0, help="Leave out layers of fewer bytes.")


class $cls(Exporter[Options]):
    """A text file with the digest and the size of each layer."""

    type = "$name"
    title = "List of the layers"
    artifact = ArtifactKind.ARCHIVE
    name = "exporting a list of the layers"

    async def export(self, source: Source, context: ExportContext) -> ExportResult:
        """Write the file."""
        if context.output is None:
            raise FailedPreconditionError("$name writes a file: give it a dest")
        refs = source.refs if source.refs is not None else {"": source.ref}
        lines: list[str] = []
        for platform, ref in sorted(refs.items()):
            if ref is None:  # a platform without layers
                continue
            remote = await ref.remote(self.compression)
            for layer in remote.descriptors:
                if layer.size >= self.options.min_size:
                    lines.append(f"{platform} {layer.digest} {layer.size}".strip() + "\\n")
        response = {"$name.count": str(len(lines))}
        async with context.output.file(response) as file:
            await file.write("".join(lines).encode())
            await file.commit()
        return ExportResult(response=response)
'''

_TEST = '''\
"""Tests of the exporter; the fixtures come with buildkit-exporter."""

from __future__ import annotations

import pytest
from exporter import FailedPreconditionError, InvalidArgumentError, default_registry
from exporter.testing import BlockingWorkbench, MemoryLayer, source_of

from $module import $cls

SOURCE = source_of(MemoryLayer({"etc/motd": b"hello\\n"}), MemoryLayer({"big": bytes(100_000)}))


def test_layers_are_listed(workbench: BlockingWorkbench) -> None:
    run = workbench.export($cls({}), SOURCE)
    lines = run.output.file_content.decode().splitlines()
    assert len(lines) == 2
    assert all(line.startswith("sha256:") for line in lines)
    assert run.response == {"$name.count": "2"}


def test_small_layers_are_left_out(workbench: BlockingWorkbench) -> None:
    run = workbench.export($cls({"min-size": "100000"}), SOURCE)
    assert run.response == {"$name.count": "1"}


def test_platforms(workbench: BlockingWorkbench) -> None:
    run = workbench.export($cls({}), workbench.load_sample("multi-platform"))
    assert run.output.file_content.startswith(b"linux/amd64 sha256:")


def test_a_second_export_is_the_same(workbench: BlockingWorkbench) -> None:
    workbench.assert_reproducible($cls({}), SOURCE)


def test_without_a_destination(workbench: BlockingWorkbench) -> None:
    with pytest.raises(FailedPreconditionError, match="give it a dest"):
        workbench.export($cls({}), SOURCE, takes_files=False)


def test_wrong_values_are_refused() -> None:
    with pytest.raises(InvalidArgumentError, match="specified for min-size"):
        $cls({"min-size": "big"})


def test_it_is_installed() -> None:
    assert default_registry().get("$name") is $cls
'''

_README = """\
# $name

An exporter for BuildKit, for use with [buildkit-exporter](https://pypi.org/project/buildkit-exporter/).

```sh
pip install -e '.[dev]'
pytest
mypy
```

Try it with a recorded build:

```sh
buildkit-exporter exporters --type $name
buildkit-exporter sample build
buildkit-exporter export --source build --output type=$name,dest=layers.txt
```

`src/$module/__init__.py` has the exporter. The documentation of buildkit-exporter has a guide.
"""

_IGNORED = """\
__pycache__/
.mypy_cache/
.pytest_cache/
.venv/
build/
dist/
"""


def package_files(name: str) -> dict[str, str]:
    """The files of the package, by path.

    Args:
        name: The name of the package and of the type.
    """
    module = name.replace("-", "_")
    cls = "".join(word.capitalize() for word in name.split("-"))
    cls = cls if cls.endswith("Exporter") else f"{cls}Exporter"
    values = {"name": name, "module": module, "cls": cls, "version": metadata.version("buildkit-exporter")}
    files = {
        "pyproject.toml": _PYPROJECT,
        "README.md": _README,
        ".gitignore": _IGNORED,
        f"src/{module}/__init__.py": _MODULE,
        f"src/{module}/py.typed": "",
        f"tests/test_{module}.py": _TEST,
    }
    return {path: Template(text).substitute(values) for path, text in files.items()}
