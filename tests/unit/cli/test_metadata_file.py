from __future__ import annotations

import base64
import json
import stat
from pathlib import Path

import pytest

from exporter.cli.metadata_file import marshal_metadata, write_metadata_file


def encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def test_objects_in_base64_are_written_as_objects_and_keys_are_sorted() -> None:
    response = {
        "image.name": "docker.io/library/app:latest",
        "containerimage.descriptor": encoded(
            '{"mediaType":"a+json", "size":5,"annotations":{"z":"<&>","a":"1"}}'
        ),
    }
    assert marshal_metadata(response).decode() == (
        "{\n"
        '  "containerimage.descriptor": {\n'
        '    "mediaType": "a+json",\n'
        '    "size": 5,\n'
        '    "annotations": {\n'
        '      "z": "\\u003c\\u0026\\u003e",\n'
        '      "a": "1"\n'
        "    }\n"
        "  },\n"
        '  "image.name": "docker.io/library/app:latest"\n'
        "}"
    )


@pytest.mark.parametrize(
    "value",
    [
        "plain text",
        "",
        "abcd",  # base64, but not of JSON
        encoded("[1]"),
        encoded("null"),
        encoded("{}"),
        encoded('{"a":1} x'),
        encoded('{"a":1}').rstrip("="),
        encoded('{"a":12}') + "\u00e9",
    ],
)
def test_everything_else_stays_a_string(value: str) -> None:
    assert json.loads(marshal_metadata({"key": value})) == {"key": value}


def test_line_breaks_in_base64_do_not_matter() -> None:
    value = encoded('{"a":1}')
    assert json.loads(marshal_metadata({"key": f"{value[:3]}\r\n{value[3:]}\n"})) == {"key": {"a": 1}}


def test_an_empty_response_is_an_empty_object() -> None:
    assert marshal_metadata({}) == b"{}"


def test_the_file_is_replaced_and_nothing_else_is_left(tmp_path: Path) -> None:
    path = tmp_path / "metadata.json"
    path.write_text("old")
    write_metadata_file(path, {"a": "b"})
    assert json.loads(path.read_bytes()) == {"a": "b"}
    assert list(tmp_path.iterdir()) == [path]
    assert stat.S_IMODE(path.stat().st_mode) & 0o600 == 0o600


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("target")
    write_metadata_file(tmp_path / "link", {"a": "b"})
    assert (tmp_path / "link").is_symlink()
    assert json.loads((tmp_path / "target").read_bytes()) == {"a": "b"}


def test_an_error_leaves_the_old_file(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No such file"):
        write_metadata_file(tmp_path / "missing" / "metadata.json", {})
    assert list(tmp_path.iterdir()) == []
