"""The command line, ``buildkit-exporter``: declarations of commands, what they print, exit statuses.

Texts about flags, and advice that names one, are here alone. Nothing imports it.
Code that a Python user would miss belongs in a lower room.
"""
