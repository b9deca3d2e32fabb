"""Verifying images: every digest, size, media type and diff ID, and whether the parts belong together.

Returns findings, which the command line displays. It reads through providers and
changes nothing.
"""

from exporter.verify.checklist import Blob, Checklist
from exporter.verify.docker_archive import ArchiveFiles, verify_docker_images
from exporter.verify.images import ImageVerifier, IsWanted
from exporter.verify.report import Finding, Outcome, Report, Result, Subject

__all__ = [
    "ArchiveFiles",
    "Blob",
    "Checklist",
    "Finding",
    "ImageVerifier",
    "IsWanted",
    "Outcome",
    "Report",
    "Result",
    "Subject",
    "verify_docker_images",
]
