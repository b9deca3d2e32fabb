"""Speaking to buildkitd and dockerd: typed calls, what their caches hold, and the services of a session.

Knows nothing of exports of ours; those are in `exporter.takeover`.
"""
