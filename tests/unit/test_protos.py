from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest
from google.protobuf import descriptor_pb2

from exporter.pb.buildkit.exporter.v1 import exporter_pb2

ROOT = Path(__file__).parents[2]
STUBS = ROOT / "exporter" / "pb"
PUBLISHED = ROOT / "tests" / "data" / "contract" / "published.binpb"


def _tree(directory: Path) -> dict[str, str]:
    files = (path for path in directory.rglob("*.py*") if path.suffix in {".py", ".pyi"})
    return {str(path.relative_to(directory)): path.read_text("utf-8") for path in files}


def test_the_committed_stubs_are_those_of_the_protos(tmp_path: Path) -> None:
    if importlib.util.find_spec("grpc_tools") is None:
        message = "grpcio-tools is not installed: pip install 'buildkit-exporter[dev]'"
        if os.environ.get("CI"):
            pytest.fail(message, pytrace=False)
        pytest.skip(message)
    subprocess.run([sys.executable, ROOT / "scripts" / "gen-protos", tmp_path], check=True)
    assert _tree(tmp_path) == _tree(STUBS)


def test_generating_removes_stubs_whose_proto_is_gone_and_nothing_else(tmp_path: Path) -> None:
    if importlib.util.find_spec("grpc_tools") is None:
        pytest.skip("grpcio-tools is not installed: pip install 'buildkit-exporter[dev]'")
    old = tmp_path / "old"
    old.mkdir()
    for name in ("gone_pb2.py", "gone_pb2.pyi", "gone_pb2_grpc.py", "kept.txt"):
        (old / name).write_text("")
    subprocess.run([sys.executable, ROOT / "scripts" / "gen-protos", tmp_path], check=True)
    assert [path.name for path in old.iterdir()] == ["kept.txt"]


def test_the_published_contract_has_every_field_of_the_current_one() -> None:
    published = _definitions(PUBLISHED.read_bytes())
    current = exporter_pb2.DESCRIPTOR.serialized_pb
    file = descriptor_pb2.FileDescriptorProto.FromString(current)
    assert _definitions(descriptor_pb2.FileDescriptorSet(file=[file]).SerializeToString()) == published, (
        "run scripts/contract: it fails if the change breaks daemons or plugins"
    )


def _definitions(data: bytes) -> list[tuple[str, ...]]:
    """Every message, field, enum value and method of the contract, with its number and type."""
    found: list[tuple[str, ...]] = []

    def add(message: descriptor_pb2.DescriptorProto, prefix: str) -> None:
        name = f"{prefix}.{message.name}"
        for field in message.field:
            found.append(
                (name, field.name, str(field.number), str(field.type), str(field.label), field.type_name)
            )
        for nested in message.nested_type:
            add(nested, name)

    for file in descriptor_pb2.FileDescriptorSet.FromString(data).file:
        if file.package != "buildkit.exporter.v1":
            continue
        for message in file.message_type:
            add(message, file.package)
        for enum in file.enum_type:
            found += [(enum.name, value.name, str(value.number)) for value in enum.value]
        for service in file.service:
            found += [
                (
                    service.name,
                    method.name,
                    method.input_type,
                    method.output_type,
                    f"{method.client_streaming} {method.server_streaming}",
                )
                for method in service.method
            ]
    return sorted(found)
