"""Killing exports at each of their writes, and checking what is left; run by ``scripts/crash``."""
