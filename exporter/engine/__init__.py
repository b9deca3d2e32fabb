"""Runs one export: its place in line, its store, its scratch directory, and what is left to publish.

The server, the proxy and the command line call it, each with a source and an output of its own.
No gRPC: requests and statuses are translated by its callers.
"""
