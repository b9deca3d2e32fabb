"""Definitions of builds in LLB, BuildKit's low-level language.

States are immutable. Each operation returns a new one; `Client.solve` builds a state, and `State.marshal`
serializes it, with the digests that Go's client package gives the same operations::

    base = llb.image("alpine")
    built = base.run("make", cwd="/src", mounts=[llb.BindMount("/src", llb.local("context"))])
    result = await client.solve(llb.scratch().copy(built, "/out", "/"), directories={"context": "."})
"""

from exporter.client.llb.actions import KEEP, Action, Copy, MakeDirectory, MakeFile, MakeLink, Remove
from exporter.client.llb.mounts import BindMount, CacheMount, Mount, SecretMount, SSHMount, TmpfsMount
from exporter.client.llb.sources import diff, git, http, image, local, merge, oci_layout, scratch
from exporter.client.llb.state import Network, State
from exporter.client.llb.steps import Step, Tree

__all__ = [
    "KEEP",
    "Action",
    "BindMount",
    "CacheMount",
    "Copy",
    "MakeDirectory",
    "MakeFile",
    "MakeLink",
    "Mount",
    "Network",
    "Remove",
    "SSHMount",
    "SecretMount",
    "State",
    "Step",
    "TmpfsMount",
    "Tree",
    "diff",
    "git",
    "http",
    "image",
    "local",
    "merge",
    "oci_layout",
    "scratch",
]
