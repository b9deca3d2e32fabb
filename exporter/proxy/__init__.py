"""Stands between clients and an unmodified buildkitd, and runs exporters that the daemon does not have.

Here it is decided which streams pass untouched and which are ours. What an export of ours does is in
`exporter.takeover`, which the client uses as well.
"""
