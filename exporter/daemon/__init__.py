"""The side of BuildKit that faces a daemon: typed calls, cache records and chains, the services of a session.

Files of a session (fsutil), secrets, credentials and SSH agents are here. It knows nothing of exports of
ours inside a build; those are in `exporter.takeover`.
"""
