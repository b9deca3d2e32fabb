"""The command line, ``buildkit-exporter``."""
