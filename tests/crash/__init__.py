"""Killing exports at each of their writes, and looking at what is left; run by ``scripts/crash``."""
