from __future__ import annotations

from pathlib import Path

import pytest

from exporter.cli.failures import UsageError
from exporter.cli.workplace import refuse_workplace_options, workplace_config
from exporter.engine.config import WorkplaceConfig
from exporter.layer.cache import DEFAULT_LIMIT
from exporter.remotes.registry import DockerCredentials, RegistryOptions
from tests.certificates import make_certificates
from tests.command import parse_args


def parse(*words: str, command: str = "export") -> WorkplaceConfig:
    needed = ("--source", "x", "-o", "type=image") if command == "export" else ()
    return workplace_config(parse_args(command, *needed, *words))


@pytest.mark.parametrize("command", ["export", "serve"])
def test_nothing_is_chosen_unless_asked_for(command: str, tmp_path: Path) -> None:
    assert parse("--root", str(tmp_path), command=command) == WorkplaceConfig(root=tmp_path)
    assert WorkplaceConfig(root=tmp_path).layer_cache_bytes == DEFAULT_LIMIT


def test_the_size_of_the_layer_cache(tmp_path: Path) -> None:
    assert parse("--root", str(tmp_path), "--layer-cache-bytes", "0").layer_cache_bytes == 0


def test_the_largest_sum_of_the_sizes_of_files(tmp_path: Path) -> None:
    assert parse("--root", str(tmp_path), "--max-content-bytes", "7").max_content_bytes == 7


def test_registry_options(tmp_path: Path) -> None:
    config = tmp_path / "config.json"
    config.write_text("{}")
    make_certificates(tmp_path)
    authorities = (tmp_path / "ca.pem", tmp_path / "server.pem")
    words = ["--root", str(tmp_path), "--registry-config", str(config)]
    for path in authorities:
        words += ["--registry-ca", str(path)]
    registries = parse(*words).registries
    assert registries is not None
    assert isinstance(registries.credentials, DockerCredentials)
    assert registries.credentials.path == config
    assert registries.ca_files == authorities
    assert registries.certs_dir == RegistryOptions().certs_dir
    registries = parse(*words, "--registry-certs-dir", str(tmp_path)).registries
    assert registries is not None
    assert registries.certs_dir == tmp_path


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("--registry-config", "there is no file"),
        ("--registry-certs-dir", "there is no directory"),
        ("--registry-ca", "cannot be used"),
    ],
)
@pytest.mark.parametrize("exists", [False, True])
def test_files_of_registry_options_are_checked(
    option: str, message: str, exists: bool, tmp_path: Path
) -> None:
    path = tmp_path / "thing"
    if exists and option == "--registry-config":
        path.mkdir()
    elif exists:
        path.write_text("no certificate")
    with pytest.raises(UsageError, match=f"{option}: .*{message}"):
        parse("--root", str(tmp_path), option, str(path))


@pytest.mark.parametrize(
    "words",
    [
        ("--root", "r"),
        ("--containerd", "/c"),
        ("--containerd-namespace", "n"),
        ("--containerd-snapshotter", "s"),
        ("--layer-cache-bytes", "0"),
        ("--max-content-bytes", "1"),
        ("--registry-ca", "f"),
        ("--registry-certs-dir", "d"),
    ],
)
def test_options_of_this_process_are_refused_with_a_server(words: tuple[str, str]) -> None:
    options = parse_args("export", "--source", "x", "-o", "type=image", *words)
    with pytest.raises(UsageError, match=f"{words[0]} is for exports in this process"):
        refuse_workplace_options(options)
