from __future__ import annotations

import pytest

from exporter.errors import InvalidArgumentError
from exporter.remotes.containerd import ContainerdConfig


@pytest.mark.parametrize(
    "address", ["/run/containerd/containerd.sock", "unix:///run/containerd/containerd.sock"]
)
def test_addresses_are_paths(address: str) -> None:
    assert ContainerdConfig(address=address).socket == "/run/containerd/containerd.sock"


@pytest.mark.parametrize(
    "address", ["", "containerd.sock", "tcp://127.0.0.1:1", "unix://c.sock", "unix:c.sock"]
)
def test_other_addresses_are_refused(address: str) -> None:
    with pytest.raises(InvalidArgumentError, match="absolute path of its socket") as caught:
        ContainerdConfig(address=address)
    assert caught.value.field == "containerd"


@pytest.mark.parametrize("name", ["default", "k8s.io", "a-b_c.d", "A1", "x" * 76])
def test_names(name: str) -> None:
    config = ContainerdConfig(address="/c", namespace=name, snapshotter=name)
    assert (config.namespace, config.snapshotter) == (name, name)


@pytest.mark.parametrize("name", ["", "-a", "a.", "a..b", "a b", "a/b", "ä", "a\n", "x" * 77])
@pytest.mark.parametrize("key", ["namespace", "snapshotter"])
def test_names_that_containerd_would_refuse(name: str, key: str) -> None:
    with pytest.raises(InvalidArgumentError, match=f"not a valid name for a containerd {key}") as caught:
        ContainerdConfig(address="/c", **{key: name})
    assert caught.value.field == f"containerd_{key}"
