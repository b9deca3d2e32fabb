from __future__ import annotations

import json
from typing import Any

import pytest

from exporter.cli.failures import UsageError
from exporter.cli.inspect.document import to_document
from exporter.cli.inspect.select import select
from exporter.cli.inspect.table import render_contents
from exporter.cli.inspect.view import ArtifactView, Contents, ImageView, LayerView, view_image
from exporter.cli.printing import print_tables
from exporter.errors import InvalidArgumentError, NotFoundError
from exporter.image import Descriptor, Platform
from exporter.image.media_types import OCI_MANIFEST

DIGESTS = [f"sha256:{digit * 64}" for digit in "abcdef"]


def config(history: list[dict[str, Any]], diff_ids: list[str], **more: object) -> bytes:
    rootfs = {"type": "layers", "diff_ids": diff_ids}
    return json.dumps(
        {"architecture": "amd64", "os": "linux", "rootfs": rootfs, "history": history, **more}
    ).encode()


def layers(count: int) -> list[LayerView]:
    return [
        LayerView(digest, "", 1000 * (number + 1), "layer") for number, digest in enumerate(DIGESTS[:count])
    ]


def image(
    history: list[dict[str, Any]], count: int, diff_ids: list[str] | None = None, **more: object
) -> ImageView:
    ids = DIGESTS[3 : 3 + count] if diff_ids is None else diff_ids
    manifest = Descriptor(OCI_MANIFEST, DIGESTS[5], 10)
    return view_image(
        ["example.com/app:v1"], manifest, DIGESTS[4], config(history, ids, **more), layers(count)
    )


def printed(
    capsys: pytest.CaptureFixture[str], contents: Contents, *, truncate: bool = True, width: int = 120
) -> str:
    print_tables(*render_contents(contents, truncate=truncate, width=width))
    return capsys.readouterr().out


def test_entries_that_are_not_empty_get_the_layers_in_order() -> None:
    view = image(
        [{"created_by": "a"}, {"created_by": "b", "empty_layer": True}, {"created_by": "c", "comment": "k"}],
        2,
    )
    assert [(step.created_by, step.layer) for step in view.steps] == [("a", 0), ("b", None), ("c", 1)]
    assert [layer.diff_id for layer in view.layers] == DIGESTS[3:5]
    assert view.size == 3000
    assert view.problems == ()


def test_layers_without_an_entry_come_last() -> None:
    view = image([{"created_by": "a"}], 3)
    assert [(step.created_by, step.layer) for step in view.steps] == [("a", 0), ("", 1), ("", 2)]
    assert view.problems == ("the history has 1 entries with a layer for 3 layers",)


def test_entries_without_a_layer_are_reported() -> None:
    view = image([{"created_by": "a"}, {"created_by": "b"}], 1)
    assert [step.layer for step in view.steps] == [0, None]
    assert view.problems == ("the history has 2 entries with a layer for 1 layers",)


def test_an_image_without_history_is_fine() -> None:
    view = image([], 2)
    assert [step.layer for step in view.steps] == [0, 1]
    assert view.problems == ()


def test_a_wrong_number_of_diff_ids_is_reported() -> None:
    assert image([], 2, DIGESTS[:1]).problems == ("the config lists 1 diff IDs for 2 layers",)


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b'{"os":5}'])
def test_invalid_configs_are_rejected(data: bytes) -> None:
    with pytest.raises(InvalidArgumentError, match=f"image config {DIGESTS[0]}: "):
        view_image([], None, DIGESTS[0], data, [])


def test_the_table_aligns_history_and_layers(capsys: pytest.CaptureFixture[str]) -> None:
    view = image(
        [
            {"created": "2026-01-02T03:04:05.678Z", "created_by": "/bin/sh -c #(nop) ADD file in / "},
            {"created_by": "ENV A=b", "empty_layer": True},
            {"created_by": "RUN " + "x" * 100 + "\x1b[2J"},
        ],
        2,
        author="Me",
        config={
            "Env": ["A=b"],
            "Cmd": ["sh", "<"],
            "Labels": {"b": "2", "a": "1"},
            "ExposedPorts": {"80/tcp": {}},
        },
    )
    assert printed(capsys, Contents("OCI layout", (view,))).splitlines() == [
        "example.com/app:v1",
        "  Platform      linux/amd64",
        f"  Manifest      {DIGESTS[5]} ({OCI_MANIFEST})",
        f"  Config        {DIGESTS[4]}",
        "  Author        Me",
        "  Layers        2 (3.00kB)",
        "  ExposedPorts  80/tcp",
        "  Env           A=b",
        '  Cmd           ["sh", "<"]',
        "  Labels        a=1",
        "                b=2",
        "",
        "  #  CREATED                SIZE  LAYER         DIFF ID       CREATED BY",
        "  1  2026-01-02 03:04:05  1.00kB  aaaaaaaaaaaa  dddddddddddd  ADD file in /",
        "     -                        0B                              ENV A=b",
        f"  2  -                    2.00kB  bbbbbbbbbbbb  eeeeeeeeeeee  RUN {'x' * 55}…",
    ]


def test_nothing_is_shortened_on_request(capsys: pytest.CaptureFixture[str]) -> None:
    command = "/bin/sh -c " + "x" * 100
    view = image([{"created": "2026-01-02T03:04:05.678Z", "created_by": command}], 1)
    row = printed(capsys, Contents("OCI layout", (view,)), truncate=False).splitlines()[-1]
    assert row.split("  ")[1:] == ["1", "2026-01-02T03:04:05.678Z", "1.00kB", DIGESTS[0], DIGESTS[3], command]


def test_a_narrow_terminal_has_no_room_for_diff_ids(capsys: pytest.CaptureFixture[str]) -> None:
    contents = Contents("OCI layout", (image([{"created_by": "RUN make"}], 1),))
    assert printed(capsys, contents, width=80).splitlines()[-2:] == [
        "  #  CREATED    SIZE  LAYER         CREATED BY",
        "  1  -        1.00kB  aaaaaaaaaaaa  RUN make",
    ]
    assert "DIFF ID" in printed(capsys, contents, width=80, truncate=False)


def test_artifacts_are_shown_with_their_subject(capsys: pytest.CaptureFixture[str]) -> None:
    manifest = Descriptor(OCI_MANIFEST, DIGESTS[0], 5)
    blob = Descriptor(
        "application/json", DIGESTS[1], 7, annotations={"in-toto.io/predicate-type": "https://slsa.dev"}
    )
    attestations = ArtifactView((), manifest, DIGESTS[2], (blob,))
    other = ArtifactView(("chart",), Descriptor(OCI_MANIFEST, DIGESTS[3], 5, artifact_type="a/chart"))
    assert printed(capsys, Contents("OCI layout", (attestations, other))).splitlines() == [
        "(no name)",
        f"  Attestations of {DIGESTS[2]}",
        f"  Manifest  {DIGESTS[0]}",
        "  SIZE  BLOB          TYPE",
        "    7B  bbbbbbbbbbbb  https://slsa.dev",
        "",
        "chart",
        "  No image: a/chart",
        f"  Manifest  {DIGESTS[3]}",
    ]


def test_the_document_has_everything() -> None:
    view = image([{"created_by": "a", "author": "me"}], 1, config={"User": "1000"})
    manifest = Descriptor(OCI_MANIFEST, DIGESTS[0], 5)
    document = to_document(Contents("OCI layout", (view, ArtifactView((), manifest, DIGESTS[2]))))
    assert json.loads(json.dumps(document)) == {
        "kind": "OCI layout",
        "images": [
            {
                "names": ["example.com/app:v1"],
                "manifest": {"mediaType": OCI_MANIFEST, "digest": DIGESTS[5], "size": 10},
                "configDigest": DIGESTS[4],
                "platform": {"architecture": "amd64", "os": "linux"},
                "created": None,
                "author": None,
                "size": 1000,
                "config": {"User": "1000"},
                "layers": [{"digest": DIGESTS[0], "diffID": DIGESTS[3], "size": 1000, "mediaType": "layer"}],
                "history": [
                    {
                        "created": None,
                        "createdBy": "a",
                        "author": "me",
                        "comment": "",
                        "emptyLayer": False,
                        "layer": 0,
                    }
                ],
                "problems": [],
            }
        ],
        "artifacts": [
            {
                "names": [],
                "manifest": {"mediaType": OCI_MANIFEST, "digest": DIGESTS[0], "size": 5},
                "subject": DIGESTS[2],
                "blobs": [],
            }
        ],
    }


@pytest.fixture
def two() -> Contents:
    arm = view_image(
        ["docker.io/library/app:latest"],
        Descriptor(OCI_MANIFEST, DIGESTS[1], 5),
        DIGESTS[2],
        json.dumps({"architecture": "arm64", "variant": "v8", "os": "linux"}).encode(),
        [],
    )
    return Contents("OCI layout", (image([], 0), arm, ArtifactView((), Descriptor("x", DIGESTS[3], 1))))


@pytest.mark.parametrize(
    ("name", "position"),
    [
        ("example.com/app:v1", 0),
        ("app", 1),
        ("library/app:latest", 1),
        (DIGESTS[5], 0),
        (DIGESTS[4], 0),
        ("bbbbbb", 1),
        ("sha256:dddddd", 2),
    ],
)
def test_images_are_chosen_by_name_or_digest(two: Contents, name: str, position: int) -> None:
    assert select(two, name, None).items == (two.items[position],)


def test_images_are_chosen_by_platform(two: Contents) -> None:
    assert select(two, None, None).items == two.items
    assert select(two, None, "linux/arm64").items == (two.items[1],)
    assert select(two, "app", "linux/aarch64").items == (two.items[1],)
    assert isinstance(two.items[0], ImageView)
    assert two.items[0].platform == Platform(os="linux", architecture="amd64")


def test_a_choice_without_a_match_lists_the_images(two: Contents) -> None:
    with pytest.raises(
        NotFoundError, match=r"there is no image bbbb; the images are: example.com/app:v1, docker.io/lib"
    ):
        select(two, "bbbb", None)
    with pytest.raises(
        NotFoundError, match="for platform windows/amd64; platforms: linux/amd64, linux/arm64/v8"
    ):
        select(two, None, "windows/amd64")
    with pytest.raises(UsageError, match="invalid value a/b/c/d for --platform"):
        select(two, None, "a/b/c/d")
