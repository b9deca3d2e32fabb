"""The command ``inspect``: shows the contents of an image."""
