"""Go's ``archive/tar``, as far as its behaviour reaches a layer's diff ID.

BuildKit rewrites a layer's timestamps by reading every header with Go's tar reader and writing it again
with Go's tar writer, which chooses a format anew, drops, adds and sorts PAX records, fills holes of sparse
files and ends the archive with exactly two zero blocks. A diff ID is the digest of these bytes, so nothing
but the same decisions gives the same image. Python's `tarfile` takes other ones (and is lenient where Go
refuses), hence this package.

Strings are bytes throughout: tar has no encoding, and Go keeps what it reads.
"""

from exporter.layer.gotar.header import Format, Header, TarError, TarTime, TypeFlag
from exporter.layer.gotar.reader import TarReader
from exporter.layer.gotar.writer import TarWriter

__all__ = ["Format", "Header", "TarError", "TarReader", "TarTime", "TarWriter", "TypeFlag"]
