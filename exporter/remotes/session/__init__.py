"""The content and the refs of a session's client."""
