"""Blobs and refs over a wire: registries, containerd, Docker engines, and the clients of sessions.

Each implements the protocols of `exporter.content` and `exporter.source`, so that callers need not know which
one they have. No service is offered here: this is the calling side.
"""
