"""gRPC and what is below it: helpers, statuses, listeners, HTTP/2 frames, and sessions.

Knows no service of BuildKit but the one that attaches a session.
"""
