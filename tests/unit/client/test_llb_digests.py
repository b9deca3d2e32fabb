"""Definitions in LLB have the digests that Go's client package gives the same operations.

The digests were recorded from ``client/llb`` of BuildKit (commit 73ed6825c) for linux/arm64, with the unique
ID ``unique``.
"""

from __future__ import annotations

import hashlib

import pytest

from exporter.client import llb
from exporter.image import Platform, digest_bytes
from exporter.pb.pb import ops_pb2

PLATFORM = Platform(os="linux", architecture="arm64")

BUSYBOX = llb.image("busybox")
SOURCE = llb.local("context", include=["a b", "<ü>"], exclude=["*.log"], follow=["l"], shared_key_hint="k")
RUN = BUSYBOX.run("echo $X", env={"X": "1", "A": "2"}, cwd="/d", user="u")

STATES = {
    "image": BUSYBOX,
    "local": SOURCE,
    "run": RUN,
    "mounts": BUSYBOX.run(
        ["/x"],
        mounts=[
            llb.BindMount("/z", SOURCE, "/sub"),
            llb.CacheMount("/cache", "c", "locked"),
            llb.TmpfsMount("/tmp", 4096),
            llb.SecretMount("/run/secrets/s", "s"),
            llb.SSHMount(id="default"),
        ],
        secret_env={"TOKEN": "token"},
        network="none",
        privileged=True,
        valid_exit_codes=[0, 7],
    ),
    "file": BUSYBOX.file(
        llb.MakeDirectory(path="/a/b", mode=0o750, parents=True),
        llb.MakeFile(path="/a/b/c", data=b"data", mode=0o600, owner="me:7"),
        llb.Copy(
            source=SOURCE,
            src="x/*",
            dest="/dest/",
            follow_symlinks=True,
            contents=True,
            create_dest=True,
            wildcard=True,
            allow_empty=True,
            include=["i"],
            exclude=["e"],
            timestamp=5_000_000_006,
        ),
        llb.MakeLink(path="/l", target="/t"),
        llb.Remove(path="/gone", allow_missing=True, wildcard=True),
    ),
    "copy": llb.scratch().copy(SOURCE, "/", "/", mode=0o755),
    "merge": llb.merge([RUN, llb.diff(BUSYBOX, RUN), llb.scratch().make_file("/m", b"m")]),
    "git": llb.git("https://github.com/moby/buildkit.git", ref="v0.1", subdir="sub/dir", keep_git_dir=True),
    "gitssh": llb.git("git@127.0.0.1:moby/buildkit.git", known_hosts="host key"),
    "http": llb.http(
        "https://example.com/f",
        checksum=f"sha256:{hashlib.sha256(b'x').hexdigest()}",
        filename="n",
        mode=0o640,
        uid=1,
        gid=2,
    ),
    "layout": llb.oci_layout(
        "docker.io/local/kept", f"sha256:{hashlib.sha256(b'y').hexdigest()}", store="store"
    ),
}

DIGESTS = {
    "image": [
        "sha256:22700c910cfcb723cdf2fcc0f17452030417956f4d8bf13f6dfddec7681d7180",
        "sha256:16e356daea8daa3021be711965c466cc90e04278831b744b5b831b469f0f9a66",
    ],
    "local": [
        "sha256:d157ad43205bed1a16737f7bb0fbf665f574410708f2c9451c20738442629db4",
        "sha256:e4deeb80342afad76b130637bebf6215628754a45ed7b6e7c4ca528dedd17460",
    ],
    "run": [
        "sha256:22700c910cfcb723cdf2fcc0f17452030417956f4d8bf13f6dfddec7681d7180",
        "sha256:9e2bbe68694e536d7c31b60b963aff8a66dd6935f537e0d33b4f14d823c848c0",
        "sha256:ec0dd309e4eecc4d78d81357a2aeb77e51c70bb7abcbebd611bd8a63bb094540",
    ],
    "mounts": [
        "sha256:22700c910cfcb723cdf2fcc0f17452030417956f4d8bf13f6dfddec7681d7180",
        "sha256:d157ad43205bed1a16737f7bb0fbf665f574410708f2c9451c20738442629db4",
        "sha256:8a0e20e0141bba1dc39455681124186f96395739e77e09655fefa1932b15f816",
        "sha256:210b0dfc21be770eb4fb58b77c5ffa81b198a85b8d47f4b67a0e0a256fe973e5",
    ],
    "file": [
        "sha256:22700c910cfcb723cdf2fcc0f17452030417956f4d8bf13f6dfddec7681d7180",
        "sha256:d157ad43205bed1a16737f7bb0fbf665f574410708f2c9451c20738442629db4",
        "sha256:c6e30cb91fd2531958a114cfa8f103eadf1ddb9cf3d015f60b66b0649f92ea02",
        "sha256:4f0d1127183419c908a7db5fdc64e221aa6399b6038dd89b6122381ef9834a5b",
    ],
    "copy": [
        "sha256:d157ad43205bed1a16737f7bb0fbf665f574410708f2c9451c20738442629db4",
        "sha256:80570e16374b3755e3145df0c0c408fc280ff95ee1a5badc3a45b3f0a7665c3b",
        "sha256:4911efb9c6000afcd422d77c859c43dc7313a415865df369331d635ddeb06aac",
    ],
    "merge": [
        "sha256:22700c910cfcb723cdf2fcc0f17452030417956f4d8bf13f6dfddec7681d7180",
        "sha256:9e2bbe68694e536d7c31b60b963aff8a66dd6935f537e0d33b4f14d823c848c0",
        "sha256:da04170fda5be41a43db6f750f434aea6388a328e7396e4288ed022b6794c931",
        "sha256:41127dc1f1bd5b98919136829c3c64625e8dd626c0b40bc73e50395743b13ff1",
        "sha256:4b4fcd347df69ac6cff0be6e1c8dd35cd6c7e3c3c31326d0f02a93afe1aa799c",
        "sha256:0f11a5ea6f191f00fc9dfacdd48155bee1c18358dac27730b12ede434b840969",
    ],
    "git": [
        "sha256:2e7554d8d5e6ae3038ee4e0a9517ac5c7d1d4140d057e59d1e9ad9d31124ca4d",
        "sha256:aa1a839d3df650043d2d7936ebb2096b041e585edbf599e56c7d92e293c33553",
    ],
    "gitssh": [
        "sha256:9084cf4556a82b1e367a4c986bb0918d9eb3d037521d308d802883cc12e8cb4a",
        "sha256:5d12914b6193d9fcaabdcb411876749e1cc98f6935c84dffbee2e3692807148f",
    ],
    "http": [
        "sha256:8b3c924d0bd135e76d0637ec654cdd49e1339dd6b6d22982741dcf93fdbdc263",
        "sha256:2cab6343a4a5079de233818b331e9801581d1d95ee63151e01853b20bbffdd93",
    ],
    "layout": [
        "sha256:01251d447880d91d8c4b7e0fa0bcfaaa38ffc4fb717878395e6aefd74fefeeb8",
        "sha256:ff8c006d4f279b00f8a5db28a24049ab9f417fb61edae68939d8a432c6093df1",
    ],
}


@pytest.mark.parametrize("name", STATES)
def test_digests_are_those_of_go(name: str) -> None:
    definition = STATES[name].marshal(PLATFORM, unique_id="unique")
    data = list(getattr(definition, "def"))
    ops = [ops_pb2.Op.FromString(each) for each in data]
    assert [digest_bytes(each) for each in data] == DIGESTS[name], ops


def test_directories_of_different_builds_are_different() -> None:
    """Otherwise, a daemon would give one of two concurrent builds the files of the other."""
    assert SOURCE.marshal(PLATFORM) != SOURCE.marshal(PLATFORM)
