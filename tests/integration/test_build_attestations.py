"""Attestations of ``build`` and of ``docker buildx build``, made by the same daemon of the same context."""

from __future__ import annotations

import json
import tarfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.integration.builder import Builder, own_builder
from tests.integration.cli_process import run
from tests.integration.dockerfiles import Case, write_context
from tests.integration.mistake_peers import in_sync
from tests.integration.registry_peer import docker_registry

DOCKERFILE = (
    "FROM scratch AS base\nCOPY busybox /bin/sh\nARG MODE=fast\nRUN echo $MODE >/mode\n"
    "FROM scratch\nCOPY --from=base /mode /mode\nLABEL a=b\n"
)
SCANNER = """\
#!/bin/sh
set -e
files=$(cd $BUILDKIT_SCAN_SOURCE && busybox find . -type f | busybox sort | busybox tr '\\n' ' ')
cat >$BUILDKIT_SCAN_DESTINATION/sbom.spdx.json <<END
{"_type": "https://in-toto.io/Statement/v0.1", "predicateType": "https://spdx.dev/Document",
 "predicate": {"name": "$BUILDKIT_SCAN_SOURCE", "files": "$files"}}
END
"""


@pytest.fixture(scope="module")
def builder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Builder]:
    with own_builder(tmp_path_factory.mktemp("home")) as found:
        yield found


@pytest.fixture(scope="module")
def scanner(builder: Builder, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """An image that lists files, in a registry: what people scan with cannot be had offline."""
    directory = tmp_path_factory.mktemp("scanner")
    dockerfile = "FROM scratch\nCOPY busybox /bin/busybox\nCOPY busybox /bin/sh\nCOPY busybox /bin/cat\n"
    dockerfile += 'COPY --chmod=755 scan /scan\nENTRYPOINT ["/scan"]\n'
    context = write_context(directory / "context", Case(dockerfile, {"scan": SCANNER.encode()}))
    with in_sync(docker_registry(directory)) as host:
        name = f"{host}/scanner:v1"
        pushed = run(directory, "build", "--addr", builder.address, "--push", "-t", name, str(context))
        assert pushed.status == 0, pushed.err
        yield name


def blobs(path: Path) -> dict[str, bytes]:
    with tarfile.open(path) as archive:
        return {m.name: archive.extractfile(m).read() for m in archive if m.isfile()}  # type: ignore[union-attr]


def blob(files: Mapping[str, bytes], digest: str) -> Any:
    return json.loads(files["blobs/" + digest.replace(":", "/")])


def image_and_statements(path: Path) -> tuple[list[str], list[Any]]:
    """The digests of an archive's images, and all their attestations."""
    files = blobs(path)
    [root] = json.loads(files["index.json"])["manifests"]
    entries = blob(files, root["digest"])["manifests"]
    kind = "vnd.docker.reference.type"
    images = [entry["digest"] for entry in entries if kind not in entry.get("annotations", {})]
    found = [blob(files, entry["digest"]) for entry in entries if kind in entry.get("annotations", {})]
    return images, [blob(files, layer["digest"]) for manifest in found for layer in manifest["layers"]]


def build_both(builder: Builder, directory: Path, *words: str) -> list[tuple[list[str], list[Any]]]:
    context = write_context(directory / "context", Case(DOCKERFILE))
    common = ["-t", "example.com/x:v1", "--build-arg", "SOURCE_DATE_EPOCH=1", *words]
    output = f"type=oci,rewrite-timestamp=true,dest={directory}"
    theirs = builder.buildx("build", *common, "-o", f"{output}/theirs.tar", str(context))
    assert theirs.returncode == 0, theirs.stderr
    flags = ("--addr", builder.address, "-o", f"{output}/ours.tar")
    ours = run(directory, "build", *common, *flags, str(context))
    assert ours.status == 0, ours.err
    return [image_and_statements(directory / f"{name}.tar") for name in ("theirs", "ours")]


RUNS = {"invocationId", "startedOn", "finishedOn", "buildInvocationID", "buildStartedOn", "buildFinishedOn"}
"""What provenance has of the run itself."""


def comparable(value: Any) -> Any:
    """A statement without what differs from run to run.

    The digests of build steps differ, too: the operations that they are of name the session.
    """
    if isinstance(value, list):
        return [comparable(item) for item in value]
    if not isinstance(value, dict):
        return value
    found = {key: comparable(item) for key, item in value.items() if key not in RUNS}
    if "digestMapping" in value:
        found["digestMapping"] = sorted(value["digestMapping"].values())
    return found


def take_root(statement: Any) -> Any:
    """Remove the client's request if it differs from that to the frontend."""
    predicate = statement["predicate"]
    parameters = predicate.get("buildDefinition", {}).get("externalParameters", {}).get("request")
    return (parameters or predicate.get("invocation", {}).get("parameters", {})).pop("root", None)


@pytest.mark.parametrize(
    "words",
    [
        ["--provenance=mode=max"],
        ["--provenance=mode=min"],
        ["--provenance=true"],
        ["--provenance=mode=max,version=v0.2"],
        ["--attest", "type=provenance,mode=max,builder-id=https://example.com/ours"],
    ],
)
def test_the_same_provenance_as_buildx(builder: Builder, tmp_path: Path, words: list[str]) -> None:
    (their_images, [theirs]), (our_images, [ours]) = build_both(builder, tmp_path, *words)
    assert our_images == their_images
    metadata = ours["predicate"].get("metadata") or ours["predicate"]["runDetails"]["metadata"]
    assert len(RUNS & metadata.keys()) == 3
    # buildx adds a frontend of its own between the daemon and the frontend; the daemon reports both
    # requests. They are the same one.
    take_root(theirs)
    assert take_root(ours) is None
    assert comparable(ours) == comparable(theirs)


def test_the_same_sbom_as_buildx(builder: Builder, scanner: str, tmp_path: Path) -> None:
    words = ("--provenance=mode=max", f"--sbom=generator={scanner}")
    (their_images, theirs), (our_images, ours) = build_both(builder, tmp_path, *words)
    assert our_images == their_images
    kinds = {statement["predicateType"].rpartition("/")[0] for statement in ours}
    assert kinds == {"https://spdx.dev", "https://slsa.dev/provenance"}
    [sbom] = [statement for statement in ours if "spdx" in statement["predicateType"]]
    assert sbom["predicate"]["files"].split() == ["./mode"]
    for statement in theirs:
        take_root(statement)
    assert [comparable(statement) for statement in ours] == [comparable(statement) for statement in theirs]
