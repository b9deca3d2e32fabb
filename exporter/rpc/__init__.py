"""gRPC and what is below it: helpers, statuses, listeners, HTTP/2 frames, and sessions.

Errors become statuses, and statuses errors, here alone. It knows no service of BuildKit but the one that
attaches a session, and nothing of images.
"""
