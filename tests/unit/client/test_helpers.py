"""Connection helpers: which command an address means."""

from __future__ import annotations

import pytest

from exporter.client.helpers import helper_command
from exporter.errors import InvalidArgumentError


@pytest.mark.parametrize(
    ("address", "command"),
    [
        ("docker-container://Builder_0", "docker exec -i Builder_0 buildctl dial-stdio"),
        ("docker-container://b?context=far", "docker --context=far exec -i b buildctl dial-stdio"),
        ("podman-container://b", "podman exec -i b buildctl dial-stdio"),
        ("nerdctl-container://b?namespace=n", "nerdctl exec --namespace n -i b buildctl dial-stdio"),
        ("kube-pod://b-0", "kubectl exec -i b-0 -- buildctl dial-stdio"),
        (
            "kube-pod://b-0?context=c&namespace=n&container=k",
            "kubectl --context=c --namespace=n exec --container=k -i b-0 -- buildctl dial-stdio",
        ),
        ("ssh://me@host:2222", "ssh -l me -p 2222 -- host buildctl dial-stdio"),
        (
            "ssh://host/run/user/1/b.sock",
            "ssh -- host buildctl --addr unix:///run/user/1/b.sock dial-stdio",
        ),
    ],
)
def test_commands_are_those_of_buildctl(address: str, command: str) -> None:
    assert helper_command(address) == command.split()


@pytest.mark.parametrize("address", ["unix:///run/b.sock", "tcp://host:1", "docker"])
def test_other_addresses_need_no_helper(address: str) -> None:
    assert helper_command(address) is None


@pytest.mark.parametrize(
    ("address", "problem"),
    [
        ("docker-container://", "the container is missing"),
        ("docker-container://--privileged", "the container is missing"),
        ("docker-container://b?contxt=far", "unknown parameter 'contxt'; it takes context"),
        ("kube-pod://b;rm", "'b;rm' is not a valid pod name"),
        ("kube-pod://b?namespace=$x", "is not a valid namespace name"),
        ("ssh://me:secret@host", "a password in the address is not supported"),
        ("ssh://-oProxyCommand=x", "the host is missing"),
        ("ssh://host?x=1", "it takes no parameters"),
        ("ssh://host:port", "Port could not be cast"),
    ],
)
def test_malformed_addresses_are_refused(address: str, problem: str) -> None:
    with pytest.raises(InvalidArgumentError) as failure:
        helper_command(address)
    assert problem in failure.value.message
    assert "secret" not in failure.value.message
