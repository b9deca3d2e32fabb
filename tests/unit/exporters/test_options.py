"""Options of exporters that are declared as dataclasses."""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any, Generic, Literal

import pytest
from typing_extensions import TypeVar

from exporter import ArtifactKind, Attribute, ExportContext, Exporter, ExportResult, Source, option
from exporter.errors import InvalidArgumentError
from exporter.exporters.attribute_check import misspelt
from exporter.exporters.options import OptionSpec
from exporter.exporters.registry import ENTRY_POINT_GROUP, Registry


class Color(enum.Enum):
    RED = "red"
    DARK_BLUE = 2


@dataclass(frozen=True)
class Options:
    title: str = option(help="The title.")
    min_size: int = option(default=0, help="Leave out layers of fewer bytes.")
    quiet: bool = option(default=False, help="Whether.")
    mode: Literal["copy", "delete"] = option(default="copy", help="How.")
    color: Color = option(default=Color.DARK_BLUE, help="In which color.")
    names: list[str] = option(default=["a", "b"], help="Which.")
    sizes: tuple[int, ...] = option(default=(), help="How large.")
    template: Path | None = option(default=None, help="A file.")
    prefix: str = option(default="v", help="Before.", name="tag.prefix")
    labels: dict[str, str] = option(default={}, help="Labels.", name="label.*")
    plain: int | None = None


class Page(Exporter[Options]):
    type = "page"
    title = "A page"
    artifact = ArtifactKind.NONE
    attributes = (Attribute("extra", "bool", "", "Checked by its kind."),)
    name = "exporting a page"

    async def export(self, source: Source, context: ExportContext) -> ExportResult:
        return ExportResult()


def options(attrs: dict[str, str]) -> Options:
    return Page({"title": "x", **attrs}).options


def test_attributes_come_from_the_fields() -> None:
    assert [(item.name, item.kind, item.default) for item in Page.attributes] == [
        ("title", "string", ""),
        ("min-size", "int", "0"),
        ("quiet", "bool", "false"),
        ("mode", "enum:copy|delete", "copy"),
        ("color", "enum:red|dark-blue", "dark-blue"),
        ("names", "list", "a,b"),
        ("sizes", "list", ""),
        ("template", "string", ""),
        ("tag.prefix", "string", "v"),
        ("label.*", "string", ""),
        ("plain", "int", ""),
        ("extra", "bool", ""),
    ]
    by_name = {item.name: item for item in Page.attributes}
    assert by_name["min-size"].help == "Leave out layers of fewer bytes."


def test_defaults() -> None:
    assert options({}) == Options(title="x")
    assert options({}).names == ["a", "b"]
    assert options({}).names is not options({}).names


@pytest.mark.parametrize(
    ("attrs", "field_name", "value"),
    [
        ({"min-size": "+12"}, "min_size", 12),
        ({"min-size": ""}, "min_size", 0),
        ({"quiet": "T"}, "quiet", True),
        ({"quiet": ""}, "quiet", False),
        ({"mode": "delete"}, "mode", "delete"),
        ({"color": "red"}, "color", Color.RED),
        ({"color": "dark-blue"}, "color", Color.DARK_BLUE),
        ({"names": "c,,d"}, "names", ["c", "d"]),
        ({"names": ""}, "names", []),
        ({"sizes": "1,-2"}, "sizes", (1, -2)),
        ({"template": "a/b"}, "template", Path("a/b")),
        ({"template": ""}, "template", None),
        ({"tag.prefix": ""}, "prefix", ""),
        ({"label.a": "1", "label.b.c": "", "labels": "2"}, "labels", {"a": "1", "b.c": ""}),
        ({"plain": "3"}, "plain", 3),
    ],
)
def test_values(attrs: dict[str, str], field_name: str, value: object) -> None:
    assert getattr(options(attrs), field_name) == value


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        (
            "quiet",
            "yes",
            'non-bool value specified for quiet: strconv.ParseBool: parsing "yes": invalid syntax: '
            "write true or false",
        ),
        (
            "min-size",
            "1_000",
            "non-integer value 1_000 specified for min-size: strconv.ParseInt: "
            'parsing "1_000": invalid syntax: write a whole number',
        ),
        (
            "min-size",
            "9223372036854775808",
            "non-integer value 9223372036854775808 specified for min-size: strconv.ParseInt: "
            'parsing "9223372036854775808": value out of range: write a whole number',
        ),
        ("mode", "deleet", 'attribute mode: "deleet" is not one of copy, delete (did you mean delete?)'),
        ("color", "green", 'attribute color: "green" is not one of red, dark-blue'),
        (
            "sizes",
            "1,x",
            'non-integer value x specified for sizes: strconv.ParseInt: parsing "x": invalid syntax: '
            "write a whole number",
        ),
        ("title", "", "attribute title is required: add title=VALUE"),
        ("extra", "loud", 'attribute extra: "loud" is neither true nor false'),
    ],
)
def test_errors_name_the_attribute_and_what_it_accepts(name: str, value: str, text: str) -> None:
    registry = Registry([EntryPoint("page", f"{__name__}:Page", ENTRY_POINT_GROUP)])
    with pytest.raises(InvalidArgumentError) as raised:
        registry.make("page", {"title": "x", name: value})
    assert raised.value.message == text
    assert raised.value.field == f"attrs[{name}]"


def test_near_misses() -> None:
    assert list(misspelt(Page.attributes, {"min-sizes": "1", "labels.x": "1"})) == [
        ("labels.x", "label."),
        ("min-sizes", "min-size"),
    ]


def test_a_dataclass_may_check_its_fields() -> None:
    @dataclass(frozen=True)
    class Checked:
        least: int = 0

        def __post_init__(self) -> None:
            if self.least < 0:
                raise ValueError("least must not be negative")

    with pytest.raises(InvalidArgumentError, match=r"^least must not be negative$"):
        OptionSpec(Checked).parse({"least": "-1"})


def test_subclasses_have_the_options_of_their_base() -> None:
    class Sub(Page):
        type = "sub"

    assert Sub({"title": "y"}).options.title == "y"
    assert Sub.attributes == Page.attributes


O_co = TypeVar("O_co", covariant=True)


def test_generic_bases() -> None:
    class Base(Exporter[O_co], Generic[O_co]):
        name = "exporting"

        async def export(self, source: Source, context: ExportContext) -> ExportResult:
            return ExportResult()

    class Derived(Base[Options]):
        type = "derived"
        title = "Derived"

    assert Derived({"title": "y"}).options.title == "y"


def test_exporters_without_a_dataclass_have_no_options() -> None:
    class Old(Page):
        pass

    class Plain(Exporter):
        name = "exporting"

        async def export(self, source: Source, context: ExportContext) -> ExportResult:
            return ExportResult()

    assert Plain({"a": "b"}).options is None
    assert Plain.attributes == ()


def _declare(annotation: Any, **arguments: Any) -> Callable[[], object]:
    def declare() -> object:
        namespace = {"__annotations__": {"a_b": annotation}, "a_b": option(help="", **arguments)}
        return OptionSpec(dataclass(frozen=True)(type("Bad", (), namespace)))

    return declare


@pytest.mark.parametrize(
    ("declare", "text"),
    [
        (_declare(float), "Bad.a_b: <class 'float'> is not a kind of option: use str, bool, "),
        (_declare(int | str), "Bad.a_b: int | str is not a kind of option: use str, bool, "),
        (_declare(list[list[str]]), r"Bad.a_b: list\[list\[str\]\] is not a kind of option"),
        (_declare(Literal[1, 2]), "Bad.a_b: the choices must be strings"),
        (_declare(Literal["a|b"]), "Bad.a_b: a choice must not be empty or contain |"),
        (_declare(dict[str, str]), r"Bad.a_b: a family of attributes needs a name with \*"),
        (_declare(dict[str, int]), r"Bad.a_b: a family of attributes is a dict\[str, str\]"),
        (_declare(str, name="a.*"), r"Bad.a_b: only a dict\[str, str\] can be a family"),
        (_declare(str, name="minSize"), "Bad.a_b: 'minSize' cannot be an attribute: use lower case"),
        (_declare(str, name=""), "Bad.a_b: '' cannot be an attribute"),
        (_declare(str, name="dest"), "Bad.a_b: dest is read by clients"),
        (_declare("Missing"), "Bad: the annotations cannot be evaluated: name 'Missing' is not defined"),
    ],
)
def test_declarations_that_cannot_work(declare: Callable[[], object], text: str) -> None:
    with pytest.raises(TypeError, match=f"^{text}"):
        declare()


def test_the_class_must_be_a_frozen_dataclass() -> None:
    class NotData:
        pass

    @dataclass
    class Thawed:
        a: list[str] = field(default_factory=list)

    @dataclass(frozen=True)
    class Twice:
        a_b: int = 0
        c: int = option(default=0, help="", name="a-b")

    for cls, text in (
        (NotData, "NotData is not a dataclass: "),
        (Thawed, "Thawed is not frozen: "),
        (Twice, "Twice: a_b and c are the same attribute, a-b"),
    ):
        with pytest.raises(TypeError, match=f"^{text}"):
            OptionSpec(cls)
    with pytest.raises(TypeError, match="Bad: declare the class with the options first"):

        class Bad(Exporter["Late"]):
            name = "exporting"


@dataclass(frozen=True)
class Late:
    pass
