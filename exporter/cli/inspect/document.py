"""Showing images as one JSON document for programs."""

from __future__ import annotations

from typing import Any

from exporter.cli.inspect.view import ArtifactView, Contents, ImageView, LayerView, Step
from exporter.image import Descriptor, Time


def to_document(contents: Contents) -> dict[str, Any]:
    """Convert the contents to plain values. Nothing is shortened; unknown values are null."""
    return {
        "kind": contents.kind,
        "images": [_image(item) for item in contents.items if isinstance(item, ImageView)],
        "artifacts": [_artifact(item) for item in contents.items if isinstance(item, ArtifactView)],
    }


def _image(image: ImageView) -> dict[str, Any]:
    return {
        "names": list(image.names),
        "manifest": _descriptor(image.manifest),
        "configDigest": image.config_digest or None,
        "platform": image.platform.to_dict(),
        "created": _time(image.created),
        "author": image.author or None,
        "size": image.size,
        "config": dict(image.runtime),
        "layers": [_layer(layer) for layer in image.layers],
        "history": [_step(step) for step in image.steps],
        "problems": list(image.problems),
    }


def _artifact(artifact: ArtifactView) -> dict[str, Any]:
    return {
        "names": list(artifact.names),
        "manifest": _descriptor(artifact.manifest),
        "subject": artifact.subject or None,
        "blobs": [_descriptor(blob) for blob in artifact.blobs],
    }


def _layer(layer: LayerView) -> dict[str, Any]:
    return {
        "digest": layer.digest or None,
        "diffID": layer.diff_id or None,
        "size": layer.size,
        "mediaType": layer.media_type or None,
    }


def _step(step: Step) -> dict[str, Any]:
    """Convert an entry of the history; ``layer`` is an index into ``layers``."""
    return {
        "created": _time(step.created),
        "createdBy": step.created_by,
        "author": step.author,
        "comment": step.comment,
        "emptyLayer": step.empty_layer,
        "layer": step.layer,
    }


def _descriptor(descriptor: Descriptor | None) -> dict[str, Any] | None:
    return descriptor.to_dict() if descriptor is not None else None


def _time(moment: Time | None) -> str | None:
    return str(moment) if moment is not None else None
