"""gRPC and what is below it: helpers, statuses, listeners, HTTP/2 frames, and sessions.

Only this room converts errors to statuses and back. Of BuildKit's services, it knows only the one that
attaches sessions. It knows nothing about images.
"""
