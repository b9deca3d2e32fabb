"""The proxy between clients and an unmodified buildkitd, which runs exporters that the daemon does not have.

This package decides which streams are passed through and which ones we answer. Our exports themselves are in
`exporter.takeover`, which the client also uses.
"""
