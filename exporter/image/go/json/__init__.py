"""JSON as Go's ``encoding/json`` (1.27) reads and writes it, to the byte and to the word of its errors.

Reading:
    `decode` reads a text into a type, by Go's rules for syntax, case folding, ``null``, repeated keys and
    errors. Types are built from `String`, `Bool`, `Int64`, `Timestamp`, `Raw`, `Slice`, `Map`, `Struct` and
    `Pointer`; a struct becomes a dict with all its fields.

    >>> platform = Struct("v1.Platform", {"os": String(), "os.features": Slice(String())})
    >>> decode(b'{"OS":"linux","other":1}', platform)
    {'os': 'linux', 'os.features': None}

    `parse` reads a text into `Node`s, when the order or the spelling in the document matters; `decode_node`
    decodes such a node, and `decode(data, Raw())` merely checks the syntax.

Writing:
    `marshal` writes plain values (dict, list, str, int, bool, None, `Verbatim` JSON) in one line,
    `marshal_indent` as ``json.MarshalIndent(v, "", "  ")`` does. Dicts are written in their own order, as
    structs are in Go; `sort_keys` gives the order of a Go map. `compact` is ``json.Compact`` with HTML
    escaping: what happens to a ``json.RawMessage``.
"""

from __future__ import annotations

from exporter.image.go.json.decode import (
    Bool,
    Int64,
    Map,
    Pointer,
    Raw,
    Slice,
    String,
    Struct,
    Timestamp,
    Type,
    decode,
    decode_node,
    fold,
)
from exporter.image.go.json.encode import (
    Verbatim,
    compact,
    escape_html,
    marshal,
    marshal_indent,
    sort_keys,
    strip_blanks,
)
from exporter.image.go.json.syntax import MAX_DEPTH, Node, parse, unquote

__all__ = [
    "MAX_DEPTH",
    "Bool",
    "Int64",
    "Map",
    "Node",
    "Pointer",
    "Raw",
    "Slice",
    "String",
    "Struct",
    "Timestamp",
    "Type",
    "Verbatim",
    "compact",
    "decode",
    "decode_node",
    "escape_html",
    "fold",
    "marshal",
    "marshal_indent",
    "parse",
    "sort_keys",
    "strip_blanks",
    "unquote",
]
