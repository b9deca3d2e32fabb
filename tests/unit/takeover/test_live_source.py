"""Build results reconstructed from recordings, as the daemon itself would have passed them."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import replace

import pytest

from exporter.content.files import BlobDirectory
from exporter.content.overlay import MultiProvider
from exporter.errors import FailedPreconditionError
from exporter.image import CommitOptions, Descriptor
from exporter.source.saved.load import SavedSource
from exporter.source.types import Ref
from exporter.takeover.comparison import compare_configs, doubts_that_matter
from exporter.takeover.daemon_image import DaemonImage, read_image
from exporter.takeover.live_source import BuildResult, Doubt, live_source
from tests.builds import read_json, scenario, scenario_names
from tests.recordings import cache_records, exporter_of

BUILDKIT = scenario_names(daemon="buildkit")


def provider_of(name: str) -> MultiProvider:
    return MultiProvider(BlobDirectory(scenario(name) / "oci" / "blobs"))


async def image_of(name: str) -> DaemonImage:
    root = read_json(name, "oci/index.json")["manifests"][0]
    return await read_image(provider_of(name), Descriptor.from_dict(root))


def result_of(name: str) -> BuildResult:
    source = read_json(name, "source.json")
    metadata = {key: base64.b64decode(value) for key, value in (source["metadata"] or {}).items()}
    return BuildResult(metadata, tuple(source["refs"]), cache_records(name))


def id_of(ref: Ref | None) -> str | None:
    return ref.id if ref is not None else None


def ids_of(refs: Mapping[str, Ref | None] | None) -> dict[str, str | None] | None:
    return None if refs is None else {key: id_of(ref) for key, ref in refs.items()}


@pytest.mark.parametrize("name", BUILDKIT)
async def test_recorded_builds(name: str) -> None:
    true_source = (await SavedSource.open(scenario(name))).source
    image = await image_of(name)
    live = live_source(result_of(name), image, provider_of(name), inline_only_provenance=False)
    assert live.doubts == ()
    assert id_of(live.source.ref) == id_of(true_source.ref)
    assert ids_of(live.source.refs) == ids_of(true_source.refs)
    assert live.source.metadata == true_source.metadata
    for key, ref in (live.source.refs or {"": live.source.ref}).items():
        true_ref = (true_source.refs or {"": true_source.ref})[key]
        if ref is not None and true_ref is not None:
            assert await ref.layer_chain() == await true_ref.layer_chain()
    exporter_type, attrs = exporter_of(name)
    # Of files the image was made once more, by an exporter without attributes.
    epoch = None if exporter_type in {"local", "tar"} else CommitOptions.load(attrs)[0].epoch
    assert await compare_configs(live, image, epoch) == []


@pytest.mark.parametrize("name", [name for name in BUILDKIT if name.startswith("provenance")])
async def test_attestations_are_read_back(name: str) -> None:
    """The attestations in the image; those that are only for images are not in an archive."""
    true_source = (await SavedSource.open(scenario(name))).source
    live = live_source(result_of(name), await image_of(name), provider_of(name), inline_only_provenance=True)
    for platform, attestations in live.source.attestations.items():
        for found, true in zip(attestations, true_source.attestations[platform], strict=True):
            assert found.predicate_type == true.predicate_type
            assert found.path == true.path
            assert found.metadata == {**true.metadata, "inline-only": b"true"}
            assert found.subjects == ()
            assert found.content is not None


async def test_a_config_that_differs() -> None:
    image = await image_of("run-chain")
    part = replace(image.platforms[0], config=b"{}")
    live = live_source(result_of("run-chain"), image, provider_of("run-chain"), inline_only_provenance=False)
    [difference] = await compare_configs(live, replace(image, platforms=(part,)), None)
    assert difference.platform_id == "linux/amd64"
    assert (
        difference.ours
        == read_json("run-chain", "result.json")["exporter_response"]["containerimage.config.digest"]
    )
    assert difference.daemon in str(difference)


async def test_platforms_that_do_not_fit() -> None:
    image = await image_of("multi-platform")
    with pytest.raises(FailedPreconditionError, match="has 1 platforms, but the daemon made 2 images"):
        live_source(result_of("run-chain"), image, provider_of("run-chain"), inline_only_provenance=False)


async def test_refs_that_do_not_fit() -> None:
    result = replace(result_of("run-chain"), refs=())
    with pytest.raises(FailedPreconditionError, match="no ref of the build has the image's 6 layers"):
        live_source(
            result, await image_of("run-chain"), provider_of("run-chain"), inline_only_provenance=False
        )


async def test_ambiguous_refs() -> None:
    """Without times and names the refs are ambiguous, which is reported and not guessed."""
    result = result_of("multi-platform")
    nameless = {
        key: replace(record, description="", created_at=None) for key, record in result.records.items()
    }
    live = live_source(
        replace(result, records=nameless),
        await image_of("multi-platform"),
        provider_of("multi-platform"),
        inline_only_provenance=False,
    )
    assert len(live.doubts) == 2
    assert "other refs fit its layers as well" in live.doubts[0].text
    image = await image_of("multi-platform")
    assert await doubts_that_matter(live, image, None) == [], "either ref gives the same bytes"


async def test_ambiguity_matters_only_if_configs_would_differ() -> None:
    image = await image_of("run-chain")
    live = live_source(result_of("run-chain"), image, provider_of("run-chain"), inline_only_provenance=False)
    chain = await live.source.ref.layer_chain() if live.source.ref is not None else ()
    for text, matters in (("RUN something else", True), (chain[-1].description, False)):
        rival = (
            *chain[:-1],
            replace(
                chain[-1],
                description=text,
                created_at=chain[0].created_at if matters else chain[-1].created_at,
            ),
        )
        doubt = Doubt("linux/amd64", "doubtful", (rival,))
        doubtful = replace(live, doubts=(doubt,))
        assert await doubts_that_matter(doubtful, image, None) == ([doubt] if matters else [])
