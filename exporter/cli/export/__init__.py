"""The command ``export``: exports a saved source, here or on a server."""
