from __future__ import annotations

import hpack
from hypothesis import given
from hypothesis import strategies as st

from exporter.rpc.http2.headers import NO_TABLE, encode_headers

HEADER = st.tuples(st.binary(min_size=1, max_size=200), st.binary(max_size=1000))


@given(st.lists(st.lists(HEADER, max_size=5), max_size=3))
def test_another_decoder_reads_what_is_sent(blocks: list[list[tuple[bytes, bytes]]]) -> None:
    decoder = hpack.Decoder(1 << 20)
    decoder.max_allowed_table_size = 0  # a peer that allows no table
    start = NO_TABLE
    for block in blocks:
        assert list(decoder.decode(start + encode_headers(block), raw=True)) == block
        start = b""


def test_never_indexed_headers_stay_never_indexed() -> None:
    secret = hpack.NeverIndexedHeaderTuple(b"authorization", b"x")
    [read] = hpack.Decoder().decode(encode_headers([secret]), raw=True)
    assert isinstance(read, hpack.NeverIndexedHeaderTuple)
    assert encode_headers([read]) == encode_headers([secret]) != encode_headers([(b"authorization", b"x")])
