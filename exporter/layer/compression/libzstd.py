"""Zstandard: the interpreter's own module, or its backport before Python 3.14.

It is libzstd, works outside the interpreter lock and has all the parameters that are wanted here. Unlike
`zstandard`, its decompressor limits what a call gives out, and tells a whole frame from one that was cut.
"""

from __future__ import annotations

import sys

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

__all__ = ["zstd"]
