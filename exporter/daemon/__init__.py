"""Talking to a daemon: typed calls, cache records and chains, and a session's services.

A session's files (fsutil), secrets, credentials and SSH agents are here. This package does not know about our
exports inside a build, which are in `exporter.takeover`.
"""
