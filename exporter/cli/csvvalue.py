"""The fields of a command-line value such as ``type=oci,"dest=a,b.tar"``, split as buildctl splits it.

One line of CSV by the rules of Go's ``encoding/csv`` (buildctl uses ``go-csvvalue``): a field that
begins with a quote ends with one, ``""`` in it is a quote, and other fields must not contain any.
"""

from __future__ import annotations

from exporter.errors import InvalidArgumentError

_BARE_QUOTE = 'bare " in non-quoted-field'
_BAD_QUOTE = 'extraneous or missing " in quoted-field'


def split_fields(line: str) -> list[str]:
    """Split a value into its fields. A line break at the end is ignored.

    Raises:
        InvalidArgumentError: the value is empty, or its quotes do not match; with Go's message.
    """
    line = line.removesuffix("\n").removesuffix("\r") if line.endswith("\n") else line
    if not line:
        raise InvalidArgumentError("the value is empty")
    fields: list[str] = []
    position = 0
    while True:
        if line.startswith('"', position):
            field, position = _quoted_field(line, position + 1)
        else:
            field, position = _plain_field(line, position)
        fields.append(field)
        if position == len(line):
            return fields
        position += 1  # the comma; a field always follows it, even if empty


def _plain_field(line: str, start: int) -> tuple[str, int]:
    end = line.find(",", start)
    if end < 0:
        end = len(line)
    quote = line.find('"', start, end)
    if quote >= 0:
        raise _error(line, quote, _BARE_QUOTE)
    return line[start:end], end


def _quoted_field(line: str, start: int) -> tuple[str, int]:
    pieces: list[str] = []
    while True:
        quote = line.find('"', start)
        if quote < 0:
            raise _error(line, start, _BAD_QUOTE)
        pieces.append(line[start:quote])
        if line.startswith('"', quote + 1):
            pieces.append('"')
            start = quote + 2
        elif quote + 1 == len(line) or line[quote + 1] == ",":
            return "".join(pieces), quote + 1
        else:
            raise _error(line, quote, _BAD_QUOTE)


def _error(line: str, position: int, problem: str) -> InvalidArgumentError:
    column = len(line[:position].encode("utf-8", "surrogateescape")) + 1
    return InvalidArgumentError(f"parse error on line 1, column {column}: {problem}")
