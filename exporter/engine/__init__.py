"""Runs one export: its place in line, its store, its scratch directory, and what is left to publish.

No gRPC: the server, the proxy and the command line call it, each with a source and an output of its own.
"""
