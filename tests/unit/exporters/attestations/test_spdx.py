from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from exporter.exporters.attestations import spdx
from exporter.image import ImageError

DATA = Path(__file__).parents[3] / "data" / "spdx" / "recorded.jsonl.gz"
RECORDED = [json.loads(line) for line in gzip.decompress(DATA.read_bytes()).splitlines()]


@pytest.mark.parametrize("case", RECORDED, ids=range(len(RECORDED)))
def test_results_of_the_go_library(case: dict[str, Any]) -> None:
    data = case["document"].encode()
    if case.get("fails") == "read":
        with pytest.raises(spdx.SPDXError):
            spdx.read(data)
        return
    document = spdx.read(data)
    if case.get("fails") == "write":
        with pytest.raises(ImageError, match=r"^unable to encode spdx: "):
            spdx.write(document, creator="t-1")
        return
    assert spdx.write(document, creator="t-1").decode() == case["written"]


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b"{}",
        b'{"spdxVersion":2.3}',
        b'{"spdxVersion":"SPDX-3.0"}',
        b'{"spdxVersion":"SPDX-2.3","SPDXID":"DOCUMENT"}',
        b'{"spdxVersion":"SPDX-2.3","name":5}',
        b'{"spdxVersion":"SPDX-2.3","packages":[null]}',
    ],
)
def test_invalid_documents(data: bytes) -> None:
    with pytest.raises(spdx.SPDXError):
        spdx.read(data)


def test_comments_of_files() -> None:
    document = spdx.read(
        b'{"spdxVersion":"SPDX-2.3","SPDXID":"SPDXRef-DOCUMENT",'
        b'"files":[{"fileName":"/a","SPDXID":"SPDXRef-a"},null,'
        b'{"fileName":"/b","SPDXID":"SPDXRef-b","comment":"mine"}],'
        b'"packages":[{"SPDXID":"SPDXRef-p","files":[{"fileName":"/c","SPDXID":"SPDXRef-c"}]}]}'
    )
    for file in spdx.uncommented_files(document):
        file["comment"] = f"in a layer: {file['fileName']}"
    written = json.loads(spdx.write(document, creator="tool-1"))
    assert [file and file["comment"] for file in written["files"]] == ["in a layer: /a", None, "mine"]
    assert written["packages"][0]["files"][0]["comment"] == "in a layer: /c"
    assert written["creationInfo"] == {"creators": ["Tool: tool-1"], "created": ""}
