"""Saved sources: build results in directories, to be exported without a daemon or sent with a bug report."""
