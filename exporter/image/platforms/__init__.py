"""Platforms: parsing, matching, and which platform of a build result is which."""
