"""The exporter `report`."""

from __future__ import annotations

import json
from html.parser import HTMLParser

import pytest

from exporter.errors import InvalidArgumentError
from exporter.exporters.report.exporter import ReportExporter
from exporter.exporters.report.html import of_bytes, seconds, text
from exporter.source import Attestation, AttestationKind, Source
from exporter.testing import MemoryLayer, Workbench, assert_reproducible, load_sample, ref_of, source_of

VOID = {"meta", "br"}
NASTY = "<script>alert('x')</script>\"'&\x1b[31m"


class Page(HTMLParser):
    """A page: its text, and whether its tags are balanced and refer to nothing."""

    def __init__(self, data: bytes) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: set[str] = set()
        self.texts: list[str] = []
        self.feed(data.decode())
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        assert not {name for name, _ in attrs} & {"src", "href", "onclick", "onload"}
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.texts.append(data)

    @property
    def text(self) -> str:
        return "\n".join(self.texts)


async def page_of(source: Source, **attrs: str) -> Page:
    async with Workbench.open() as bench:
        run = await bench.export(ReportExporter(attrs), source)
        return Page(run.output.file_content)


async def test_layers_beside_their_steps_and_what_is_hidden() -> None:
    source = source_of(
        MemoryLayer({"big": b"x" * 3000, "etc/motd": b"hello"}, description="RUN download"),
        MemoryLayer({".wh.big": b""}, description="RUN rm big"),
    )
    page = await page_of(source, name="example.com/app:v1")
    for expected in (
        "example.com/app:v1",
        "RUN download",
        "RUN rm big",
        "2.9 KiB",
        "linux/amd64",
        "etc/motd",
    ):
        assert expected in page.text
    assert "1 file, 2.9 KiB" in page.text
    assert "2.9 KiB (99.8%)" in page.text


async def test_nothing_from_an_image_becomes_markup() -> None:
    config = {
        "architecture": "amd64",
        "os": "linux",
        "config": {"Labels": {NASTY: NASTY}, "Env": [f"A={NASTY}"], "User": NASTY, "Cmd": [NASTY]},
    }
    source = source_of(
        MemoryLayer({NASTY: b"x", "a": b"1"}, description=NASTY),
        MemoryLayer({f".wh.{NASTY}": b""}),
        config=json.dumps(config).encode(),
        attestations={
            "linux/amd64": [
                Attestation(
                    AttestationKind.IN_TOTO, predicate_type=NASTY, content=json.dumps({NASTY: NASTY}).encode()
                )
            ]
        },
    )
    page = await page_of(source, title=NASTY)
    assert "script" not in page.tags
    assert page.text.count("alert('x')") >= 8
    assert "\x1b" not in page.text


async def test_every_platform_has_its_section() -> None:
    page = await page_of((await load_sample("multi-platform")).source)
    assert {"linux/amd64", "linux/arm64"} <= set(page.texts)


async def test_provenance_lists_what_the_build_used() -> None:
    provenance = {"materials": [{"uri": "pkg:docker/alpine@3.20", "digest": {"sha256": "ab" * 32}}]}
    sbom = {"packages": [{"name": "zlib", "versionInfo": "1.3"}, {"name": "bash"}, "not a package"]}
    slsa1 = {"buildDefinition": {"resolvedDependencies": [{"uri": "https://example.com/a.tar"}]}}
    attestations = [
        Attestation(
            AttestationKind.IN_TOTO,
            predicate_type=f"https://example.com/{index}",
            content=json.dumps(data).encode(),
        )
        for index, data in enumerate((provenance, sbom, slsa1))
    ]
    attestations.append(Attestation(AttestationKind.IN_TOTO, predicate_type="broken", content=b"{"))
    source = source_of(MemoryLayer({"a": b"1"}), attestations={"linux/amd64": attestations})
    page = await page_of(source)
    for expected in ("pkg:docker/alpine@3.20", "ab" * 32, "zlib", "1.3", "bash", "https://example.com/a.tar"):
        assert expected in page.text
    assert "Packages: 2" in page.text
    assert "Not a JSON object." in page.text


async def test_statements_of_a_bundle_and_predicates_in_a_ref() -> None:
    statement = {
        "predicateType": "https://example.com/bundled",
        "predicate": {"packages": [{"name": "bundled-package"}]},
    }
    ref = ref_of(
        MemoryLayer(
            {
                "sbom/a.json": json.dumps(statement).encode(),
                "single.json": b'{"materials":[{"uri":"from-ref"}]}',
            }
        )
    )
    source = source_of(
        MemoryLayer({"a": b"1"}),
        attestations={
            "linux/amd64": [
                Attestation(AttestationKind.BUNDLE, path="sbom", ref=ref),
                Attestation(AttestationKind.IN_TOTO, path="single.json", predicate_type="single", ref=ref),
            ]
        },
    )
    page = await page_of(source)
    for expected in ("https://example.com/bundled", "bundled-package", "from-ref"):
        assert expected in page.text


async def test_without_timings_the_page_depends_on_the_build_only() -> None:
    sample = await load_sample("run-chain")
    await assert_reproducible(ReportExporter({"timings": "false"}), sample.source)
    assert "This export" in (await page_of(sample.source)).text


async def test_an_image_without_layers() -> None:
    page = await page_of(source_of())
    assert "The image has no layers." in page.text


async def test_lists_have_at_most_top_files() -> None:
    source = source_of(MemoryLayer({f"file-{index}": b"x" * index for index in range(9)}))
    page = await page_of(source, top="3")
    assert "file-6" in page.text
    assert "file-5" not in page.text
    with pytest.raises(InvalidArgumentError, match="top must be at least 1"):
        ReportExporter({"top": "0"})


@pytest.mark.parametrize(
    ("size", "shown"),
    [(0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (5 << 20, "5.0 MiB"), (3 << 50, "3072.0 TiB")],
)
def test_sizes_for_people(size: int, shown: str) -> None:
    assert of_bytes(size) == shown


def test_durations_and_texts_for_people() -> None:
    assert seconds(0.0123) == "12 ms"
    assert seconds(61.5) == "61.50 s"
    assert text(b"a\xff<\x00") == "a�&lt;�"
