"""The commands as users see them: their flags, their help, what they are given. Light to import.

Each module declares one command, with a dataclass of what its command line says. What carries the command out
is imported when it is run.
"""
