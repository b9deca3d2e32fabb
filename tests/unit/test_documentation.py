"""What ``help()`` and pydoc show of our modules. They print the defaults of parameters as they are."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import exporter

PACKAGE = Path(exporter.__file__).parent
CANARY = "canary-5f0c2b7e"

WALK = """
import importlib, inspect, os, pydoc, sys

def functions(place):
    for name, value in vars(place).items():
        value = inspect.unwrap(getattr(value, "__func__", value))
        if inspect.isfunction(value):
            yield f"{place.__name__}.{name}", value
        elif inspect.isclass(value) and value.__module__ == getattr(place, "__module__", place.__name__):
            yield from functions(value)

for name in sys.stdin.read().split():
    module = importlib.import_module(name)
    for where, function in functions(module):
        for parameter in inspect.signature(function).parameters.values():
            if parameter.default is os.environ:
                print(f"{where}: the default of {parameter.name} is the environment")
    if sys.argv[1] in pydoc.render_doc(module, renderer=pydoc.plaintext):
        print(f"{name}: pydoc shows an environment variable")
"""


def test_documentation_does_not_show_the_environment() -> None:
    names = [
        ".".join(("exporter", *path.relative_to(PACKAGE).with_suffix("").parts)).removesuffix(".__init__")
        for path in sorted(PACKAGE.rglob("*.py"))
        if path.stem != "__main__"  # to import it is to run it
    ]
    assert len(names) > 200
    done = subprocess.run(
        [sys.executable, "-c", WALK, CANARY],
        input="\n".join(names),
        env={**os.environ, "CANARY": CANARY},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout.splitlines(), done.stderr) == (0, [], "")
