"""Attributes that change what an image tells."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from exporter.errors import InvalidArgumentError
from exporter.exporters.registry import Registry
from exporter.exporters.sanitize import Sanitizer
from exporter.image import Time
from exporter.images import Image
from exporter.source.saved.load import SavedSource
from exporter.testing import MemoryLayer, MemoryRegistry, Workbench, load_sample, source_of
from tests.builds import scenario
from tests.unit.exporters.test_squash import attested, check, images_in, statements

HISTORY = [
    {"created_by": "ARG TOKEN=secret", "empty_layer": True},
    {
        "created_by": "RUN |2 TOKEN=secret A=b c /bin/sh -c make TOKEN # buildkit",
        "comment": "buildkit.dockerfile.v0",
        "x": 1,
    },
    {"created_by": "|1 TOKEN=a /bin/sh -c secret /bin/sh -c true"},
    {"created_by": "RUN |1 TOKEN=secret /make x"},
    {"created_by": "RUN /bin/sh -c make # buildkit"},
]
CONFIG: dict[str, Any] = {
    "architecture": "amd64",
    "os": "linux",
    "created": "2024-01-01T00:00:00Z",
    "config": {"Env": ["PATH=/bin", "SECRET=x"], "Labels": {"a": "1", "b": "2"}, "Zeta": 1},
    "history": HISTORY,
}
LAYERS = [MemoryLayer({name: name.encode()}) for name in "abcd"]


async def sanitized(scratch: Path, exporter_type: str = "oci", **attrs: str) -> Image:
    source = source_of(*LAYERS, config=json.dumps(CONFIG).encode())
    async with Workbench.open() as bench:
        exporter = Registry().make(exporter_type, {"tar": "false", **attrs})
        run = await bench.export(exporter, source)
        (layout,) = run.output.layouts
        await check(layout)
        (image,) = (await images_in(layout, scratch)).values()
        return image


async def test_build_arguments(tmp_path: Path) -> None:
    image = await sanitized(tmp_path, **{"strip-history": "args"})
    assert [step.created_by for step in image.history] == [
        "ARG TOKEN",
        "RUN /bin/sh -c make TOKEN # buildkit",
        "/bin/sh -c true",
        "RUN (removed)",
        "RUN /bin/sh -c make # buildkit",
    ]
    assert b"secret" not in image.config
    assert len(image.layers) == 4


async def test_the_history(tmp_path: Path) -> None:
    image = await sanitized(tmp_path, **{"strip-history": "all"})
    assert "history" not in json.loads(image.config)
    assert (await sanitized(tmp_path, **{"strip-history": "none"})).history


async def test_labels_environment_user_and_time(tmp_path: Path) -> None:
    image = await sanitized(
        tmp_path,
        **{"set-label": "c=x=y", "set-label.2": "a=", "unset-label": "b,missing"},
        **{"set-env.1": "Mixed=Case", "unset-env": "SECRET", "set-user": "1000:1000", "set-created": "86400"},
    )
    assert image.labels == {"a": "", "c": "x=y"}
    assert image.env == {"PATH": "/bin", "Mixed": "Case"}
    assert image.user == "1000:1000"
    assert image.created == Time.parse("1970-01-02T00:00:00Z")
    assert {step.created for step in image.history} == {image.created}
    other = await sanitized(tmp_path, **{"set-created": "2020-02-03T04:05:06Z"})
    assert other.created == Time.parse("2020-02-03T04:05:06Z")


async def test_nothing_is_changed_unless_requested(tmp_path: Path) -> None:
    saved = await SavedSource.open(scenario("config-full"))
    async with Workbench.open() as bench:
        plain = await bench.export(Registry().make("oci", {}), saved)
        empty = await bench.export(Registry().make("oci", {"strip-history": "", "set-user": ""}), saved)
        assert plain.response["containerimage.digest"] == empty.response["containerimage.digest"]


async def test_every_type_of_images() -> None:
    registry = MemoryRegistry()
    async with Workbench.open(pusher=registry) as bench:
        sample = await load_sample()
        attrs = {"name": "example.com/x:y", "set-user": "7"}
        digests = set()
        for exporter_type in ("docker", "oci", "image", "registry"):
            run = await bench.export(Registry().make(exporter_type, attrs), sample)
            await bench.finalize(run)
            digests.add(run.response["containerimage.config.digest"])
        assert len(digests) == 1
        assert registry.pushes


async def test_with_squash(tmp_path: Path) -> None:
    image = await sanitized(tmp_path, "squash", **{"set-user": "7", "strip-history": "args"})
    assert (image.user, len(image.layers)) == ("7", 1)
    assert [step.created_by for step in image.history] == ["ARG TOKEN", "squash of 4 layers"]


async def test_attestations_stay() -> None:
    async with Workbench.open() as bench:
        exporter = Registry().make("oci", {"tar": "false", "name": "x:y", "set-user": "7"})
        run = await bench.export(exporter, attested())
        (layout,) = run.output.layouts
        await check(layout)
        digest, found = await statements(layout)
        assert len(found) == 2
        assert all(digests == [digest] for digests in found.values())


@pytest.mark.parametrize(
    ("attrs", "text"),
    [
        ({"set-label": "x"}, "set-label=x: write set-label=NAME=VALUE"),
        ({"set-env.1": "=x"}, "write set-env=NAME=VALUE"),
        ({"strip-history": "some"}, '"some" is not one of none, args, all'),
        ({"set-created": "yesterday"}, "set-created=yesterday"),
    ],
)
def test_wrong_values_are_refused_before_the_build(attrs: dict[str, str], text: str) -> None:
    for exporter_type in ("oci", "docker", "image", "registry", "squash"):
        with pytest.raises(InvalidArgumentError, match=text):
            Registry().make(exporter_type, attrs)


def test_other_attributes_are_kept() -> None:
    _, rest = Sanitizer.take({"set-label.1": "a=b", "set-user": "1", "name": "x", "unset-env": "A"})
    assert rest == {"name": "x"}
