"""Sending files and images to a session's client, like BuildKit's own exporters."""
