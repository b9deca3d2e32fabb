"""Replays every recorded build by the public command line, and tells how what comes of it compares."""
