"""Zstandard: the standard library's module, or its backport before Python 3.14.

It wraps libzstd, releases the interpreter lock and supports all the parameters that we need. Unlike
`zstandard`, its decompressor can limit the output of a call, and distinguishes complete and truncated frames.
"""

from __future__ import annotations

import sys

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

__all__ = ["zstd"]
