from __future__ import annotations

from pathlib import Path

import pytest

from exporter.cli.descriptions import ExporterDescription
from exporter.cli.failures import UsageError
from exporter.cli.outputs import (
    Destination,
    EngineDestination,
    OutputOption,
    check_destinations,
    client_keys,
    place_output,
)
from exporter.errors import InvalidArgumentError, NotFoundError
from exporter.exporters.base import ArtifactKind, Attribute
from exporter.remotes.docker_engine import EngineAddress

TAR = Attribute("tar", "bool", "true", "One archive file.")
OCI = ExporterDescription("oci", "", ArtifactKind.ARCHIVE, [TAR])
PLUGIN_ARCHIVE = ExporterDescription("zip", "", ArtifactKind.ARCHIVE, [])
IMAGE = ExporterDescription("image", "", ArtifactKind.IMAGE, [])
LOCAL = ExporterDescription("local", "", ArtifactKind.FILES, [])
CHECK = ExporterDescription("check", "", ArtifactKind.NONE, [])


def place(text: str, kind: ExporterDescription, *, terminal: bool = False) -> Destination | None:
    destination = place_output(OutputOption.parse(text), kind, stdout_is_terminal=terminal).destination
    assert not isinstance(destination, EngineDestination)
    return destination


def test_keys_are_lower_cased_and_values_kept() -> None:
    option = OutputOption.parse('type=OCI,Name=Example.com/App:V1,"Annotation.Key=a,b=c",empty=')
    assert option.type == "OCI"
    assert option.attrs == {"name": "Example.com/App:V1", "annotation.key": "a,b=c", "empty": ""}


def test_the_last_of_equal_keys_counts() -> None:
    assert OutputOption.parse("type=oci,name=a,NAME=b,type=docker") == OutputOption("docker", {"name": "b"})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("dest=a.tar", "--output requires type=<type>"),
        ("type=,dest=a.tar", "--output requires type=<type>"),
        ("oci", "invalid value 'oci'"),
        ("type=oci,", "invalid value '' in"),
        ("type=oci,output=a.tar", "output=a.tar not supported for --output, you meant dest=a.tar?"),
        ("", "the value is empty"),
        ('type=oci,"dest', 'parse error on line 1, column 11: extraneous or missing " in quoted-field'),
    ],
)
def test_malformed_outputs_are_refused_in_the_words_of_buildctl(text: str, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        OutputOption.parse(text)
    assert message in caught.value.message


def test_dest_is_not_passed_to_the_exporter(tmp_path: Path) -> None:
    option = OutputOption.parse(f"type=oci,dest={tmp_path}/a.tar,name=x")
    output = place_output(option, OCI, stdout_is_terminal=True)
    assert output.attrs == {"name": "x"}
    assert output.destination == Destination(f"{tmp_path}/a.tar", is_directory=False)


@pytest.mark.parametrize("kind", [OCI, PLUGIN_ARCHIVE])
@pytest.mark.parametrize("text", ["type=x", "type=x,dest=-"])
def test_archives_go_to_standard_output_by_default(kind: ExporterDescription, text: str) -> None:
    destination = place(text, kind)
    assert destination == Destination("-", is_directory=False)
    assert destination.is_stdout
    with pytest.raises(
        UsageError, match=f"output file is required for {kind.type} exporter. refusing to write to"
    ):
        place(text, kind, terminal=True)


@pytest.mark.parametrize("value", ["false", "0", "F"])
def test_images_without_tar_need_a_directory(value: str, tmp_path: Path) -> None:
    assert place(f"type=oci,tar={value},dest={tmp_path}", OCI) == Destination(
        str(tmp_path), is_directory=True
    )
    with pytest.raises(UsageError, match="output directory is required for oci exporter"):
        place(f"type=oci,tar={value}", OCI)


def test_an_invalid_tar_attribute_is_left_to_the_exporter(tmp_path: Path) -> None:
    assert place(f"type=oci,tar=maybe,dest={tmp_path}/a.tar", OCI) is not None


def test_tar_is_ignored_for_types_without_it(tmp_path: Path) -> None:
    destination = place(f"type=zip,tar=false,dest={tmp_path}/a.zip", PLUGIN_ARCHIVE)
    assert destination == Destination(f"{tmp_path}/a.zip", is_directory=False)


def test_files_need_a_directory(tmp_path: Path) -> None:
    assert place(f"type=local,dest={tmp_path}/new", LOCAL) == Destination(
        f"{tmp_path}/new", is_directory=True
    )
    with pytest.raises(UsageError, match="output directory is required for local exporter"):
        place("type=local", LOCAL)


@pytest.mark.parametrize("kind", [IMAGE, CHECK])
def test_types_without_a_file_take_no_destination(kind: ExporterDescription) -> None:
    assert place("type=x", kind) is None
    with pytest.raises(UsageError, match=f"output a.tar is not supported by {kind.type} exporter"):
        place("type=x,dest=a.tar", kind)


def test_destinations_of_the_wrong_kind_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"")
    with pytest.raises(UsageError, match="invalid output option: output: destination file is a directory"):
        place(f"type=oci,dest={tmp_path}", OCI)
    with pytest.raises(UsageError, match="destination directory is a file"):
        place(f"type=local,dest={file}", LOCAL)
    with pytest.raises(UsageError, match="the directory of the destination file does not exist"):
        place(f"type=oci,dest={tmp_path}/missing/a.tar", OCI)
    with pytest.raises(UsageError, match=r"invalid destination file: .*: Not a directory"):
        place(f"type=oci,dest={file}/a.tar", OCI)


def test_a_link_to_a_file_is_a_destination(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "target")
    assert place(f"type=oci,dest={tmp_path}/link", OCI) is not None


def test_two_outputs_cannot_share_a_destination(tmp_path: Path) -> None:
    def outputs(*texts: str) -> None:
        check_destinations(
            [place_output(OutputOption.parse(text), OCI, stdout_is_terminal=False) for text in texts]
        )

    outputs("type=oci", f"type=oci,dest={tmp_path}/a.tar", f"type=oci,dest={tmp_path}/b.tar")
    with pytest.raises(UsageError, match="two outputs go to standard output"):
        outputs("type=oci", "type=oci,dest=-")
    with pytest.raises(UsageError, match=r"two outputs go to .*a\.tar"):
        outputs(f"type=oci,dest={tmp_path}/a.tar", f"type=oci,dest={tmp_path}/../{tmp_path.name}/a.tar")


@pytest.fixture
def engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> EngineAddress:
    """The one that docker would use."""
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    monkeypatch.setenv("DOCKER_HOST", "tcp://engine.example:1234")
    return EngineAddress.parse("tcp://engine.example:1234")


@pytest.mark.parametrize("words", ["load=true", "LOAD=1", "load=", "load=true,context=default,dest="])
def test_an_image_can_be_loaded_into_an_engine(words: str, engine: EngineAddress) -> None:
    output = place_output(OutputOption.parse(f"type=oci,{words},name=x"), OCI, stdout_is_terminal=True)
    assert output.attrs == {"name": "x"}
    assert output.destination == EngineDestination(engine)
    check_destinations([output, output])


def test_an_image_is_loaded_only_on_request(tmp_path: Path) -> None:
    option = OutputOption.parse(f"type=oci,load=false,dest={tmp_path}/a.tar")
    output = place_output(option, OCI, stdout_is_terminal=True)
    assert output.attrs == {}
    assert output.destination == Destination(f"{tmp_path}/a.tar", is_directory=False)


@pytest.mark.parametrize(
    ("text", "kind", "message"),
    [
        (
            "type=oci,load=true,dest=a.tar",
            OCI,
            "load=true sends the image to a Docker engine and not to a.tar",
        ),
        ("type=oci,load=true,dest=-", OCI, "and not to -: leave one of them out"),
        ("type=oci,load=true,tar=false", OCI, "leave tar=false or load out"),
        ("type=oci,load=maybe", OCI, "non-bool value specified for load"),
        ("type=oci,context=x", OCI, "add load=true"),
        ("type=oci,context=x,load=false", OCI, "add load=true"),
        ("type=image,load=true", IMAGE, "load=true is not supported by image exporter: type=docker"),
        ("type=local,load=true", LOCAL, "load=true is not supported by local exporter: type=docker"),
        ("type=zip,load=true", PLUGIN_ARCHIVE, "load=true is not supported by zip exporter: type=docker"),
    ],
)
def test_outputs_that_cannot_be_loaded_are_refused(
    text: str, kind: ExporterDescription, message: str
) -> None:
    with pytest.raises(UsageError) as caught:
        place(text, kind, terminal=True)
    assert message in caught.value.message


@pytest.mark.usefixtures("engine")
def test_an_engine_that_cannot_be_found_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(NotFoundError, match="there is no docker context 'gone'"):
        place("type=oci,load=true,context=gone", OCI)
    monkeypatch.setenv("DOCKER_HOST", "ssh://engine.example")
    with pytest.raises(InvalidArgumentError, match=r"SSH is not supported.*\(from DOCKER_HOST\)"):
        place("type=oci,load=true", OCI)


def test_attributes_of_the_exporter_are_passed_on() -> None:
    for name in ("load", "context"):
        own = Attribute(name, "string", "", "Of the exporter.")
        for tar in ([], [TAR]):
            kind = ExporterDescription("own", "", ArtifactKind.ARCHIVE, [*tar, own])
            output = place_output(OutputOption.parse(f"type=own,{name}=x"), kind, stdout_is_terminal=False)
            assert output.attrs == {name: "x"}
    option = OutputOption.parse("type=check,context=x,load=false")
    assert place_output(option, CHECK, stdout_is_terminal=False).attrs == {"context": "x", "load": "false"}


def test_destinations_are_explained_by_type() -> None:
    names = {
        kind.type: [key.name for key in client_keys(kind)] for kind in (OCI, PLUGIN_ARCHIVE, LOCAL, IMAGE)
    }
    assert names == {"oci": ["dest", "load", "context"], "zip": ["dest"], "local": ["dest"], "image": []}
