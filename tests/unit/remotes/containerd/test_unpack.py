from __future__ import annotations

import hashlib

import pytest

from exporter.remotes.containerd.unpack import chain_ids


@pytest.mark.parametrize("count", [0, 1, 2, 5])
def test_each_chain_id_stands_for_a_layer_and_all_below_it(count: int) -> None:
    diff_ids = [f"sha256:{hashlib.sha256(b'%d' % number).hexdigest()}" for number in range(count)]
    chain = chain_ids(diff_ids)
    assert chain[:1] == diff_ids[:1]
    for below, diff_id, name in zip(chain, diff_ids[1:], chain[1:], strict=False):
        assert name == f"sha256:{hashlib.sha256(f'{below} {diff_id}'.encode()).hexdigest()}"
    assert len(chain) == count
