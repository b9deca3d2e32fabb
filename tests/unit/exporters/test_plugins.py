"""Messages when an exporter of another distribution fails."""

from __future__ import annotations

import asyncio
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from exporter import ArtifactKind, Attribute, ExportContext, Exporter, ExportResult, Source
from exporter.errors import Code, FailedPreconditionError, InvalidArgumentError, failure_of
from exporter.exporters.oci import OCIExporter
from exporter.exporters.plugins import Origin, PluginError, blaming, note_origin, origin_of
from exporter.exporters.registry import ENTRY_POINT_GROUP, Registry


class Acme(Exporter):
    type = "acme"
    title = "Acme's"
    artifact = ArtifactKind.NONE
    attributes = (Attribute("quiet", "bool", "false", "Whether."),)
    name = "exporting to acme"

    async def export(self, source: Source, context: ExportContext) -> ExportResult:
        return ExportResult()


def registry() -> Registry:
    return Registry([EntryPoint("acme", f"{__name__}:Acme", ENTRY_POINT_GROUP)])


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (KeyError("key"), "KeyError: 'key'"),
        (AssertionError(), "AssertionError"),
        (SystemExit("licence"), "SystemExit: licence"),
        (KeyboardInterrupt(), "KeyboardInterrupt"),
    ],
)
def test_unexpected_exceptions_are_blamed_on_the_plugin(error: BaseException, text: str) -> None:
    with pytest.raises(PluginError) as raised, blaming(Acme):
        raise error
    failure = failure_of(raised.value)
    assert failure.message == f'the exporter "acme" has failed: {text}'
    assert failure.code is Code.INTERNAL
    assert raised.value.__cause__ is error


@pytest.mark.parametrize(
    "error",
    [FailedPreconditionError("said"), FileNotFoundError(2, "gone", "x"), asyncio.CancelledError()],
)
def test_errors_with_an_explanation_pass_unchanged(error: BaseException) -> None:
    with pytest.raises(type(error)) as raised, blaming(Acme):
        raise error
    assert raised.value is error


def test_bugs_in_built_in_types_are_not_blamed_on_plugins() -> None:
    assert origin_of(OCIExporter) is None
    with pytest.raises(KeyError), blaming(OCIExporter):
        raise KeyError("key")


def test_the_distribution_is_named() -> None:
    class Other(Acme):
        pass

    note_origin(Other, Origin("acme-exporters 1.0"))
    text = 'the exporter "acme" of acme-exporters 1.0 has failed: KeyError: 1'
    with pytest.raises(PluginError, match=f"^{text}$"), blaming(Other):
        raise KeyError(1)


def test_values_are_checked_before_the_build() -> None:
    attrs = {"quiet": "true", "unknown": "x"}
    assert registry().make("acme", attrs).attrs == attrs
    with pytest.raises(InvalidArgumentError, match='attribute quiet: "loud" is neither true nor false'):
        registry().make("acme", {"quiet": "loud"})


def test_built_in_types_report_their_own_errors() -> None:
    with pytest.raises(ValueError, match="non-bool value specified for push: "):
        registry().make("image", {"push": "loud"})


def test_an_invalid_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Acme, "name", None)
    with pytest.raises(PluginError, match="TypeError: name is None, not a string"):
        registry().make("acme", {})


def test_a_module_that_ends_the_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "ending_plugin.py").write_text("raise SystemExit(3)\n")
    monkeypatch.syspath_prepend(tmp_path)
    found = Registry([EntryPoint("ending", "ending_plugin:Any", ENTRY_POINT_GROUP)])
    assert [kind.type for kind in found.all()] == [*Registry().types]
    assert found.warnings == ("plugin ending_plugin:Any does not load: SystemExit: 3",)
