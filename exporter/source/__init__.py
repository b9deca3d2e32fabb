"""What a daemon hands over to be exported: the result, its refs, their layers; saved sources and samples.

Types and files only. Refs that are fetched over a wire are in `exporter.remotes`, and a daemon's cache
records become chains in `exporter.daemon`.
"""

from exporter.source.inline import InlineRef, check_chain
from exporter.source.saved.load import SavedSource
from exporter.source.saved.save import save_source
from exporter.source.types import (
    Attestation,
    AttestationKind,
    BuildInfo,
    Layer,
    LayerChain,
    Ref,
    Remote,
    Source,
    Subject,
    SubjectKind,
)

__all__ = [
    "Attestation",
    "AttestationKind",
    "BuildInfo",
    "InlineRef",
    "Layer",
    "LayerChain",
    "Ref",
    "Remote",
    "SavedSource",
    "Source",
    "Subject",
    "SubjectKind",
    "check_chain",
    "save_source",
]
