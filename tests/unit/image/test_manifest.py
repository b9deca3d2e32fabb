"""Manifests, indices and attestation manifests in BuildKit's bytes."""

from __future__ import annotations

import json

import pytest

from exporter.image import (
    Descriptor,
    Platform,
    attestation_manifest,
    buildkit_image,
    digest_bytes,
    index_bytes,
    media_types,
)
from exporter.image.manifest import published_annotations

CONFIG = b'{"os":"linux","architecture":"amd64"}'
LAYERS = [
    {
        "mediaType": media_types.OCI_LAYER_GZIP,
        "digest": "sha256:a",
        "size": 1,
        "annotations": {
            "z<": "1",
            "containerd.io/uncompressed": "sha256:b",
            "buildkit/createdat": "now",
            "containerd.io/distribution.source.docker.io": "library/x",
            "containerd.io/distribution.source": "kept",
            "a": "2",
        },
    },
    {
        "mediaType": media_types.DOCKER_LAYER_FOREIGN,
        "digest": "sha256:c",
        "size": -1,
        "urls": ["https://x/?a&b"],
        "annotations": {"containerd.io/uncompressed": "sha256:d"},
        "data": "AAE=",
        "platform": {"os": "linux", "os.features": ["f"], "variant": None},
        "artifactType": "t",
    },
]


def test_manifest() -> None:
    made = buildkit_image(CONFIG, LAYERS, None, manifest_annotations={"é": "2", "b": "\u2028"})
    assert (
        made.manifest.decode()
        == f"""{{
  "schemaVersion": 2,
  "mediaType": "application/vnd.oci.image.manifest.v1+json",
  "config": {{
    "mediaType": "application/vnd.oci.image.config.v1+json",
    "digest": "{digest_bytes(made.config)}",
    "size": {len(made.config)}
  }},
  "layers": [
    {{
      "mediaType": "application/vnd.oci.image.layer.v1.tar+gzip",
      "digest": "sha256:a",
      "size": 1,
      "annotations": {{
        "a": "2",
        "containerd.io/distribution.source": "kept",
        "z\\u003c": "1"
      }}
    }},
    {{
      "mediaType": "application/vnd.oci.image.layer.nondistributable.v1.tar",
      "digest": "sha256:c",
      "size": -1,
      "urls": [
        "https://x/?a\\u0026b"
      ],
      "data": "AAE=",
      "platform": {{
        "architecture": "",
        "os": "linux",
        "os.features": [
          "f"
        ]
      }},
      "artifactType": "t"
    }}
  ],
  "annotations": {{
    "b": "\\u2028",
    "é": "2"
  }}
}}"""
    )
    assert made.manifest_digest == digest_bytes(made.manifest)
    assert made.manifest_descriptor == Descriptor(
        media_types.OCI_MANIFEST, made.manifest_digest, len(made.manifest)
    )
    assert made.config_descriptor == Descriptor(media_types.OCI_CONFIG, made.config_digest, len(made.config))
    assert json.loads(made.config)["rootfs"]["diff_ids"] == ["sha256:b", "sha256:d"]
    # As they are to be written, but with all that BuildKit knows of them.
    assert [layer["mediaType"] for layer in made.layers] == [
        media_types.OCI_LAYER_GZIP,
        media_types.OCI_LAYER_NONDISTRIBUTABLE,
    ]
    assert [layer["annotations"] for layer in made.layers] == [layer["annotations"] for layer in LAYERS]


def test_docker_manifest_has_no_annotations_of_layers() -> None:
    made = buildkit_image(CONFIG, LAYERS, None, oci_mediatypes=False, manifest_annotations={"a": "b"})
    manifest = json.loads(made.manifest)
    assert manifest["mediaType"] == made.manifest_descriptor.media_type == media_types.DOCKER_MANIFEST
    assert manifest["config"]["mediaType"] == made.config_descriptor.media_type == media_types.DOCKER_CONFIG
    assert [layer["mediaType"] for layer in manifest["layers"]] == [
        media_types.DOCKER_LAYER_GZIP,
        media_types.DOCKER_LAYER_FOREIGN,
    ]
    assert not any("annotations" in layer for layer in manifest["layers"])
    assert manifest["annotations"] == {"a": "b"}


def test_no_layers_are_null() -> None:
    assert b'"layers": null\n}' in buildkit_image(CONFIG, [], None).manifest


def test_published_annotations() -> None:
    internal = {
        "containerd.io/uncompressed": "x",
        "buildkit/createdat": "x",
        "containerd.io/distribution.source.": "x",
    }
    assert published_annotations(internal | {"b": "1", "a": "2"}, oci=True) == {"a": "2", "b": "1"}
    assert published_annotations(internal, oci=True) == {}
    assert published_annotations({"a": "1"}, oci=False) == {}


def test_index() -> None:
    manifests = [
        Descriptor(
            media_types.OCI_MANIFEST,
            "sha256:a",
            1,
            annotations={"b": "<", "a": "1"},
            platform=Platform(os="linux", architecture="arm", variant="v7"),
        )
    ]
    manifest = (
        '{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"sha256:a","size":1,'
        '"annotations":{"a":"1","b":"\\u003c"},"platform":{"architecture":"arm","os":"linux","variant":"v7"}}'
    )
    assert index_bytes(manifests, compact=True).decode() == (
        f'{{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[{manifest}]}}'
    )
    index = index_bytes(
        manifests,
        media_type="",
        annotations={"z": "1", "a": "2"},
        artifact_type="t",
        subject=Descriptor("m", "sha256:s", 2),
        compact=True,
    )
    assert index.decode() == (
        f'{{"schemaVersion":2,"artifactType":"t","manifests":[{manifest}],'
        '"subject":{"mediaType":"m","digest":"sha256:s","size":2},"annotations":{"a":"2","z":"1"}}'
    )


def test_indented_manifest_list() -> None:
    assert index_bytes([], media_type=media_types.DOCKER_MANIFEST_LIST).decode() == (
        '{\n  "schemaVersion": 2,\n'
        '  "mediaType": "application/vnd.docker.distribution.manifest.list.v2+json",\n'
        '  "manifests": null\n}'
    )


TARGET = Descriptor(
    media_types.OCI_MANIFEST,
    "sha256:t",
    9,
    annotations={"a": "b"},
    platform=Platform(os="linux", architecture="s390x"),
)
STATEMENT = b'{"_type":"https://in-toto.io/Statement/v0.1"}'
STATEMENT_DIGEST = digest_bytes(STATEMENT)
LAYERS_TEXT = f"""  "layers": [
    {{
      "mediaType": "application/vnd.in-toto+json",
      "digest": "{STATEMENT_DIGEST}",
      "size": {len(STATEMENT)},
      "annotations": {{
        "in-toto.io/predicate-type": "https://slsa.dev/provenance/v1"
      }}
    }}
  ]"""


def test_attestation_manifest_in_the_older_form() -> None:
    made = attestation_manifest(TARGET, [(STATEMENT, "https://slsa.dev/provenance/v1")])
    assert made.config.decode() == (
        '{"architecture":"unknown","os":"unknown","config":{},'
        f'"rootfs":{{"type":"layers","diff_ids":["{STATEMENT_DIGEST}"]}}}}'
    )
    assert made.config_descriptor == Descriptor(
        media_types.OCI_CONFIG, digest_bytes(made.config), len(made.config)
    )
    assert (
        made.manifest.decode()
        == f"""{{
  "schemaVersion": 2,
  "mediaType": "application/vnd.oci.image.manifest.v1+json",
  "config": {{
    "mediaType": "application/vnd.oci.image.config.v1+json",
    "digest": "{digest_bytes(made.config)}",
    "size": {len(made.config)}
  }},
{LAYERS_TEXT}
}}"""
    )
    assert made.descriptor.to_dict() == {
        "mediaType": media_types.OCI_MANIFEST,
        "digest": digest_bytes(made.manifest),
        "size": len(made.manifest),
        "annotations": {
            "vnd.docker.reference.digest": "sha256:t",
            "vnd.docker.reference.type": "attestation-manifest",
        },
        "platform": {"architecture": "unknown", "os": "unknown"},
    }
    assert [(layer.digest, layer.annotations["containerd.io/uncompressed"]) for layer in made.layers] == [
        (STATEMENT_DIGEST, STATEMENT_DIGEST)
    ]


def test_attestation_manifest_as_artifact() -> None:
    made = attestation_manifest(TARGET, [(STATEMENT, "https://slsa.dev/provenance/v1")], artifact=True)
    assert made.config == b"{}"
    assert made.config_descriptor.digest == digest_bytes(b"{}")
    assert (
        made.manifest.decode()
        == f"""{{
  "schemaVersion": 2,
  "mediaType": "application/vnd.oci.image.manifest.v1+json",
  "artifactType": "application/vnd.docker.attestation.manifest.v1+json",
  "config": {{
    "mediaType": "application/vnd.oci.empty.v1+json",
    "digest": "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a",
    "size": 2,
    "data": "e30="
  }},
{LAYERS_TEXT},
  "subject": {{
    "mediaType": "application/vnd.oci.image.manifest.v1+json",
    "digest": "sha256:t",
    "size": 9
  }}
}}"""
    )


@pytest.mark.parametrize("artifact", [False, True])
def test_docker_attestation_manifest(artifact: bool) -> None:
    made = attestation_manifest(TARGET, [(STATEMENT, "p")], oci=False, artifact=artifact)
    manifest = json.loads(made.manifest)
    assert manifest["mediaType"] == made.descriptor.media_type == media_types.DOCKER_MANIFEST
    assert manifest["config"]["mediaType"] == (
        media_types.OCI_EMPTY if artifact else media_types.DOCKER_CONFIG
    )
    assert "annotations" not in manifest["layers"][0]
