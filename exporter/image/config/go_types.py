"""The types into which BuildKit decodes image configs. Unknown keys are neither checked nor kept."""

from __future__ import annotations

from typing import Any

from exporter.image.go.json import Bool, Int64, Map, Pointer, Slice, String, Struct, Timestamp, Type

HISTORY = Slice(
    Struct(
        "v1.History",
        {
            "created": Timestamp(),
            "created_by": String(),
            "author": String(),
            "comment": String(),
            "empty_layer": Bool(),
        },
    )
)

HISTORY_OF_CONFIG = Struct("struct { History []v1.History }", {"History": HISTORY})
"""The anonymous type into which BuildKit decodes a config to get its history."""

_ROOTFS = Struct("v1.RootFS", {"type": String(), "diff_ids": Slice(String("digest.Digest"))})

_CONFIG: dict[str, Type[Any]] = {
    "User": String(),
    "ExposedPorts": Map(Struct("struct {}", {})),
    "Env": Slice(String()),
    "Entrypoint": Slice(String()),
    "Cmd": Slice(String()),
    "Volumes": Map(Struct("struct {}", {})),
    "WorkingDir": String(),
    "Labels": Map(String()),
    "StopSignal": String(),
    "ArgsEscaped": Bool(),
}

_DOCKER_CONFIG: dict[str, Type[Any]] = {
    **_CONFIG,
    "Healthcheck": Pointer(
        Struct(
            "v1.HealthcheckConfig",
            {
                "Test": Slice(String()),
                "Interval": Int64("time.Duration"),
                "Timeout": Int64("time.Duration"),
                "StartPeriod": Int64("time.Duration"),
                "StartInterval": Int64("time.Duration"),
                "Retries": Int64(),
            },
        )
    ),
    "OnBuild": Slice(String()),
    "Shell": Slice(String()),
}


def _image(go_type: str, config: Struct) -> Struct:
    return Struct(
        go_type,
        {
            "created": Timestamp(),
            "author": String(),
            "architecture": String(),
            "os": String(),
            "os.version": String(),
            "os.features": Slice(String()),
            "variant": String(),
            "config": config,
            "rootfs": _ROOTFS,
            "history": HISTORY,
        },
    )


IMAGE = _image("v1.Image", Struct("v1.ImageConfig", _CONFIG))
"""An image config (``ocispecs.Image``); decode it with the root name ``Image``."""

BASE_IMAGE = _image("v1.DockerOCIImage", Struct("v1.DockerOCIImageConfig", _DOCKER_CONFIG))
"""The config of a base image (``dockerspec.DockerOCIImage``); decode it with the root name
``DockerOCIImage``."""
