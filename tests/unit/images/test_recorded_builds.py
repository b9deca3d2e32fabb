"""Images as values, of every recorded build."""

from __future__ import annotations

from pathlib import Path

import pytest

from exporter.content.manifest import children
from exporter.images import Image
from exporter.source.saved.load import SavedSource
from tests.builds import read_json, scenario, scenario_names
from tests.unit.exporters.harness import Workplace
from tests.unit.images.trees import tree_of

LAZY = {"lazy-image-nohistory"}
"""Builds whose base image was not recorded."""

COMPLETE = sorted({*scenario_names()} - LAZY)


@pytest.mark.parametrize("name", scenario_names())
async def test_an_unchanged_image_keeps_its_bytes(name: str, tmp_path: Path) -> None:
    saved = await SavedSource.open(scenario(name))
    context = await Workplace(tmp_path).context(build=saved.build)
    image = await context.image(saved.source)
    again = await context.image(image.source())
    assert again.digest == image.digest
    assert again.manifest == image.manifest
    assert again.source().attestations.keys() == image.source().attestations.keys()


@pytest.mark.parametrize("name", COMPLETE)
async def test_squashed_images_have_the_same_files(name: str, tmp_path: Path) -> None:
    saved = await SavedSource.open(scenario(name))
    context = await Workplace(tmp_path).context(build=saved.build)
    for image in (await context.image(saved.source)).images.values():
        files = await tree_of(image)
        for above in {0, image.base_layers}:
            squashed = await image.squash(above=above)
            assert len(squashed.layers) == min(above + 1, len(image.layers))
            assert squashed.layers[:above] == image.layers[:above]
            assert await tree_of(squashed) == files
            check_history(squashed, image)


def check_history(squashed: Image, image: Image) -> None:
    filled = [entry for entry in squashed.history if not entry.empty_layer]
    assert len(filled) == len(squashed.layers)
    empty = [entry for entry in image.history if entry.empty_layer]
    assert [entry for entry in squashed.history if entry.empty_layer] == empty
    _, *layers = children(squashed.descriptor, squashed.manifest)
    assert [layer.digest for layer in layers] == [layer.digest for layer in squashed.layers]


def test_the_recordings_include_bases_and_several_platforms() -> None:
    """The recordings cover the cases of the tests above."""
    metadata = [read_json(name, "source.json")["metadata"] for name in COMPLETE]
    assert any("containerimage.base.config" in str(keys) for keys in metadata)
    assert any("refs.platforms" in keys for keys in metadata)
