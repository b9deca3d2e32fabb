"""Running our exports inside a daemon's build: the daemon exports an image, and ours use the same result.

The proxy uses this for other clients' builds, the client for its own; the command ``export`` uses
the backends. Those rooms route calls to this one.
"""
