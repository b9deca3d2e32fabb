"""The benchmark table and its plots; not what is measured."""

from __future__ import annotations

import json
from xml.etree import ElementTree

import pytest

from bench.core import flavors, make_config
from bench.main import GROUPS, main
from bench.plot import svg
from bench.sizes import Curve
from bench.table import Line, markdown, to_json
from exporter.image import parse_history


@pytest.mark.parametrize(("at_least", "met"), [(False, True), (True, False)])
def test_line_tells_whether_the_goal_is_met(at_least: bool, met: bool) -> None:
    line = Line(
        "group", "work", 1.0, "s", value=0.5, peer=2.0, peer_name="other", goal=0.6, at_least=at_least
    )
    assert line.is_met is met
    sign = "≥" if at_least else "≤"
    verdict = "yes" if met else "**no**"
    assert (
        markdown([line]).splitlines()[-1] == f"| work | 1 s | other: 2 s | 0.50 | {sign} 0.6 | {verdict} |  |"
    )


def test_line_without_goal_is_neither_met_nor_missed() -> None:
    line = Line("group", "work", 1234.5, "ms", value=1234.5)
    assert line.is_met is None
    assert json.loads(to_json([line]))["lines"][0]["met"] is None


def test_plot_has_a_line_and_a_point_for_each_value() -> None:
    curve = Curve("name", "a < b", "bytes", "s", {"one": {1024: 0.1, 1 << 30: 2.0}, "two": {1024: 3.0}})
    root = ElementTree.fromstring(svg(curve))
    space = "{http://www.w3.org/2000/svg}"
    assert len(root.findall(f"{space}polyline")) == 2
    assert len(root.findall(f"{space}circle")) == 3
    texts = [text.text for text in root.findall(f"{space}text")]
    assert "a < b" in texts
    assert "1 KiB" in texts


def test_config_of_the_image_core_has_the_entries_asked_for() -> None:
    history = parse_history(flavors(make_config(10), 5)["moby"]())
    assert history is not None
    assert len(history) == 10


def test_unknown_group_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(["--only", "cores"])
    assert end.value.code == 2
    assert "there is no cores; there are " + ", ".join(GROUPS) in capsys.readouterr().err
