"""Text as Go parses and formats it: the parts of ``strconv`` and ``strings`` whose results reach a user.

Attribute values, epochs and platform names are parsed by Go's rules and rejected with Go's messages, so that
errors read like BuildKit's. Go's strings are bytes; here a byte that is not UTF-8 is a lone surrogate, as
with Python's ``surrogateescape``.
"""

from __future__ import annotations

import re

from exporter.errors import ImageError

_SHORT_ESCAPES = {
    '"': '\\"',
    "\\": "\\\\",
    "\a": "\\a",
    "\b": "\\b",
    "\f": "\\f",
    "\n": "\\n",
    "\r": "\\r",
    "\t": "\\t",
    "\v": "\\v",
}
_TRUE_WORDS = frozenset({"1", "t", "T", "TRUE", "true", "True"})
_FALSE_WORDS = frozenset({"0", "f", "F", "FALSE", "false", "False"})

_SURROGATES = re.compile("[\ud800-\udfff]")

_MAX_INT64 = 2**63 - 1
_MAX_UINT64 = 2**64 - 1

GO_SPACE = (
    "\t\n\v\f\r \x85\xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a"
    "\u2028\u2029\u202f\u205f\u3000"
)
"""The characters for which ``unicode.IsSpace`` is true; `str.strip` also strips U+001C to U+001F."""


def quote(value: str | bytes) -> str:
    r"""Quote as ``strconv.Quote`` (``%q``) does: printable characters raw, others as ``\n``, ``\x00``.

    Python's Unicode version decides which characters are printable, as Go's does there.
    """
    text = value if isinstance(value, str) else value.decode("utf-8", "surrogateescape")
    return '"' + "".join(map(_quote_character, text)) + '"'


def _quote_character(character: str) -> str:
    if character in _SHORT_ESCAPES:
        return _SHORT_ESCAPES[character]
    if character.isprintable():
        return character
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:
        return f"\\x{code - 0xDC00:02x}"
    if 0xD800 <= code <= 0xDFFF:
        return "".join(f"\\x{byte:02x}" for byte in character.encode("utf-8", "surrogatepass"))
    if code < 0x20 or code == 0x7F:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def lower(text: str) -> str:
    """Lower-case character by character, as ``strings.ToLower`` does.

    Unlike `str.lower`, Go ignores context (final sigma), maps U+0130 to a single character, and replaces
    bytes that are not UTF-8 with U+FFFD.
    """
    return text.lower() if text.isascii() else "".join(map(_lower_character, text))


def _lower_character(character: str) -> str:
    if character == "\u0130":
        return "i"
    return "\ufffd" if "\ud800" <= character <= "\udfff" else character.lower()


def decode(data: bytes) -> str:
    """Decode UTF-8; each invalid byte becomes one U+FFFD, as when Go writes JSON."""
    try:
        return data.decode()
    except UnicodeDecodeError:
        return _SURROGATES.sub("\ufffd", data.decode("utf-8", "surrogateescape"))


def encode(text: str) -> bytes:
    """Encode as UTF-8; surrogates from ``surrogateescape`` become the original bytes again."""
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return text.encode("utf-8", "surrogatepass")


def parse_bool(text: str) -> bool:
    """Parse a boolean as ``strconv.ParseBool`` does: one of twelve words, nothing else.

    Raises:
        ImageError: `text` is not a boolean; with Go's message.
    """
    if text in _TRUE_WORDS:
        return True
    if text in _FALSE_WORDS:
        return False
    raise ImageError(f"strconv.ParseBool: parsing {quote(text)}: invalid syntax")


def parse_int(text: str) -> int:
    """Parse an int64 as ``strconv.ParseInt(text, 10, 64)`` does: an optional sign and ASCII digits.

    Raises:
        ImageError: `text` is not an integer or is outside int64; with Go's message.
    """
    negative = text.startswith("-")
    digits = text[1:] if text.startswith(("+", "-")) else text
    if not digits:
        raise _int_error(text, "invalid syntax")
    magnitude = 0
    for digit in digits:
        if not "0" <= digit <= "9":
            raise _int_error(text, "invalid syntax")
        magnitude = magnitude * 10 + ord(digit) - ord("0")
        # Go returns here, so a number that is out of range and followed by garbage is a range error.
        if magnitude > _MAX_UINT64:
            raise _int_error(text, "value out of range")
    if magnitude > _MAX_INT64 + negative:
        raise _int_error(text, "value out of range")
    return -magnitude if negative else magnitude


def _int_error(text: str, reason: str) -> ImageError:
    return ImageError(f"strconv.ParseInt: parsing {quote(text)}: {reason}")
