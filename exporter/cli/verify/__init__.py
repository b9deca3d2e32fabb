"""The command ``verify``: checks the integrity of an image."""
