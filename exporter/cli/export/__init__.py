"""``buildkit-exporter export``: an export of a saved source, here or on a server."""
