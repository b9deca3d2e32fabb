"""The command line, ``buildkit-exporter``: declarations of commands, what they print, exit statuses.

Only this room has texts about flags, and advice that names one. Nothing imports it.
Code that a Python user would miss belongs in a lower room.
"""
