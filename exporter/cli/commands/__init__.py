"""The commands as users see them: their flags, their help, and their arguments. Importing them is cheap.

Each module declares one command, with a dataclass of what its command line says. Its
implementation is imported when it runs.
"""
