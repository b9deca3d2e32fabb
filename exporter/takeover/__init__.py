"""An export of ours inside a daemon's build: the daemon makes an image, and ours is made of the same result.

Used by the proxy for other clients' builds, by the client for its own, and its backends by the command
``export``. How calls get here is a matter of those rooms.
"""
