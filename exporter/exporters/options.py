"""Typed options: a frozen dataclass whose fields are the attributes of an exporter.

An `Exporter` that is declared with such a class derives its attributes, their validation and their help from
the fields::

    @dataclass(frozen=True)
    class Options:
        min_size: int = option(default=0, help="Leave out layers of fewer bytes.")

    class LayerReport(Exporter[Options]): ...
"""

from __future__ import annotations

import dataclasses
import difflib
import enum
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Union, overload

from exporter.errors import ExporterError, ImageError, InvalidArgumentError
from exporter.image.go import text as gotext

__all__ = ["OptionField", "OptionSpec", "option"]

T = typing.TypeVar("T")

_KEY = "exporter.option"
_OF_CLIENTS = frozenset({"type", "dest"})
_SUPPORTED = (
    "str, bool, int, Path, Literal of strings, an enum, a list of these, dict[str, str], "
    "or one of these | None"
)


@dataclass(frozen=True, slots=True)
class _Declared:
    """The metadata of a field, in addition to its annotation and default."""

    help: str
    name: str | None


@overload
def option(*, default: T, help: str, name: str | None = None) -> T: ...
@overload
def option(*, default_factory: Callable[[], T], help: str, name: str | None = None) -> T: ...
@overload
def option(*, help: str, name: str | None = None) -> Any: ...
def option(
    *,
    default: Any = dataclasses.MISSING,
    default_factory: Any = dataclasses.MISSING,
    help: str,
    name: str | None = None,
) -> Any:
    """Declare a field of an exporter's options, as `dataclasses.field` does.

    Args:
        default: The value if the attribute is missing or empty. Without a default, the attribute is
            required. A list or dict is copied.
        default_factory: Makes the default.
        help: One sentence, for `buildkit-exporter exporters --type`.
        name: The name of the attribute; by default, the field's name with dashes. For a `dict`, it ends with
            ``*``, which stands for the keys: ``label.*``.
    """
    if isinstance(default, list | dict):
        default, default_factory = dataclasses.MISSING, default.copy
    metadata = {_KEY: _Declared(help, name)}
    return dataclasses.field(default=default, default_factory=default_factory, metadata=metadata)


@dataclass(frozen=True, slots=True)
class OptionField:
    """A field of the options, and its attribute.

    Attributes:
        field: The field's name.
        name: The name of the attribute; with a trailing ``*`` for a family of attributes.
        kind: See `Attribute.kind`.
        default: The default as a user would write it; empty if there is none.
        help: One sentence.
        is_required: Whether there is no default.
        read: Converts a non-empty value. Raises a ValueError with a message for the user.
        empty: Makes the value for an empty text; None to use the default.
    """

    field: str
    name: str
    kind: str
    default: str
    help: str
    is_required: bool
    read: Callable[[str], object]
    empty: Callable[[], object] | None


class OptionSpec:
    """The options of an exporter. Converts attributes to an instance of the dataclass.

    Args:
        cls: The dataclass.

    Raises:
        TypeError: the class is not a frozen dataclass, or a field cannot be an attribute.
    """

    def __init__(self, cls: type) -> None:
        if not dataclasses.is_dataclass(cls):
            raise TypeError(
                f"{cls.__name__} is not a dataclass: options are declared with @dataclass(frozen=True)"
            )
        if not getattr(cls, "__dataclass_params__").frozen:  # noqa: B009 (mypy does not know it)
            raise TypeError(f"{cls.__name__} is not frozen: declare it with @dataclass(frozen=True)")
        try:
            hints = typing.get_type_hints(cls)
        except NameError as error:
            raise TypeError(
                f"{cls.__name__}: the annotations cannot be evaluated: {error}; the types must be "
                "imported in the module that has the class, and not for type checkers only"
            ) from error
        self._cls = cls
        fields = [_field(cls, field, hints[field.name]) for field in dataclasses.fields(cls) if field.init]
        self.fields: tuple[OptionField, ...] = tuple(fields)
        seen: dict[str, str] = {}
        for item in self.fields:
            if item.name in seen:
                raise TypeError(
                    f"{cls.__name__}: {seen[item.name]} and {item.field} are the same attribute, {item.name}"
                )
            seen[item.name] = item.field

    def parse(self, attrs: Mapping[str, str]) -> Any:
        """Make the options. Attributes without a field are ignored.

        Raises:
            InvalidArgumentError: the value of an attribute is invalid or missing, or the dataclass's
                ``__post_init__`` raised a ValueError.
        """
        values: dict[str, object] = {}
        for item in self.fields:
            if item.name.endswith("*"):
                prefix = item.name.removesuffix("*")
                values[item.field] = {
                    name.removeprefix(prefix): value
                    for name, value in sorted(attrs.items())
                    if name.startswith(prefix)
                }
                continue
            text = attrs.get(item.name, "")
            if not text and item.is_required:
                raise InvalidArgumentError(
                    f"attribute {item.name} is required: add {item.name}=VALUE", field=f"attrs[{item.name}]"
                )
            if text:
                try:
                    values[item.field] = item.read(text)
                except ValueError as error:
                    raise InvalidArgumentError(str(error), field=f"attrs[{item.name}]") from error
            elif item.name in attrs and item.empty is not None:
                values[item.field] = item.empty()
        try:
            return self._cls(**values)
        except (ExporterError, ImageError):
            raise
        except ValueError as error:
            raise InvalidArgumentError(str(error), field="attrs") from error


def _field(cls: type, field: dataclasses.Field[Any], annotation: Any) -> OptionField:
    where = f"{cls.__name__}.{field.name}"
    declared = field.metadata.get(_KEY, _Declared("", None))
    inner = _without_none(annotation, where)
    name = declared.name if declared.name is not None else field.name.strip("_").replace("_", "-")
    if not name or name != gotext.lower(name) or set(name) & set(' =,"'):
        raise TypeError(
            f"{where}: {name!r} cannot be an attribute: use lower case without spaces, = , and quotes"
        )
    if name in _OF_CLIENTS:
        raise TypeError(f"{where}: {name} is read by clients, and exporters do not receive it")
    is_required = field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
    if typing.get_origin(inner) in {dict, Mapping} or inner is dict:
        if typing.get_args(inner) != (str, str):
            raise TypeError(f"{where}: a family of attributes is a dict[str, str]")
        if not name.endswith("*"):
            raise TypeError(f'{where}: a family of attributes needs a name with *, such as name="{name}.*"')
        return OptionField(field.name, name, "string", "", declared.help, False, str, None)
    if "*" in name:
        raise TypeError(f"{where}: only a dict[str, str] can be a family of attributes, {name}")
    kind, read, show = _kind(inner, name, where)
    default = None if is_required else field.default
    if field.default_factory is not dataclasses.MISSING:
        default = field.default_factory()
    empty: Callable[[], object] | None = None
    if not is_required and kind == "string" and inner is str:
        empty = str
    elif not is_required and kind == "list":
        empty = typing.get_origin(inner) or inner
    shown = "" if default is None else show(default)
    return OptionField(field.name, name, kind, shown, declared.help, is_required, read, empty)


def _without_none(annotation: Any, where: str) -> Any:
    if typing.get_origin(annotation) not in {Union, types.UnionType}:
        return annotation
    others = [item for item in typing.get_args(annotation) if item is not type(None)]
    if len(others) != 1:
        raise _unsupported(annotation, where)
    return others[0]


_Kind = tuple[str, Callable[[str], object], Callable[[Any], str]]
"""The name of a kind, a function that reads values, and one that formats a default."""


def _kind(annotation: Any, name: str, where: str) -> _Kind:
    origin = typing.get_origin(annotation)
    if annotation is str:
        return "string", str, str
    if annotation is bool:
        return "bool", lambda text: _bool(name, text), lambda value: "true" if value else "false"
    if annotation is int:
        return "int", lambda text: _int(name, text), str
    if annotation is Path:
        return "string", Path, str
    if origin is Literal:
        choices = {value: value for value in typing.get_args(annotation)}
        if not all(isinstance(value, str) for value in choices):
            raise TypeError(f"{where}: the choices must be strings")
        return _choice(choices, name, where)
    if isinstance(annotation, type) and issubclass(annotation, enum.Enum):
        return _choice({_spelling(member): member for member in annotation}, name, where)
    if origin in {list, tuple} or annotation in {list, tuple}:
        return _list(annotation, name, where)
    raise _unsupported(annotation, where)


def _unsupported(annotation: Any, where: str) -> TypeError:
    return TypeError(f"{where}: {annotation!r} is not a kind of option: use {_SUPPORTED}")


def _list(annotation: Any, name: str, where: str) -> _Kind:
    make = typing.get_origin(annotation) or annotation
    arguments = typing.get_args(annotation) or (str,)
    if make is tuple and len(arguments) > 1 and arguments[1:] != (Ellipsis,):
        raise TypeError(f"{where}: a tuple of options has one kind of items, as in tuple[str, ...]")
    kind, read, show = _kind(arguments[0], name, where)
    if kind == "list":
        raise _unsupported(annotation, where)

    def read_all(text: str) -> object:
        return make(read(item) for item in text.split(",") if item)

    def show_all(values: Sequence[object]) -> str:
        return ",".join(map(show, values))

    return "list", read_all, show_all


def _choice(choices: Mapping[str, object], name: str, where: str) -> _Kind:
    if any("|" in choice or not choice for choice in choices):
        raise TypeError(f"{where}: a choice must not be empty or contain |")
    shown = {value: text for text, value in choices.items()}

    def read(text: str) -> object:
        if text in choices:
            return choices[text]
        close = difflib.get_close_matches(text, choices, n=1)
        hint = f" (did you mean {close[0]}?)" if close else ""
        raise ValueError(f"attribute {name}: {gotext.quote(text)} is not one of {', '.join(choices)}{hint}")

    return f"enum:{'|'.join(choices)}", read, lambda value: shown[value]


def _spelling(member: enum.Enum) -> str:
    """The user's spelling of an enum member: its value if that is text, otherwise its name with dashes."""
    return member.value if isinstance(member.value, str) else gotext.lower(member.name).replace("_", "-")


def _bool(name: str, text: str) -> bool:
    try:
        return gotext.parse_bool(text)
    except ImageError as error:
        raise ValueError(f"non-bool value specified for {name}: {error}: write true or false") from error


def _int(name: str, text: str) -> int:
    try:
        return gotext.parse_int(text)
    except ImageError as error:
        raise ValueError(
            f"non-integer value {text} specified for {name}: {error}: write a whole number"
        ) from error
