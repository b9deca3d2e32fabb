"""Compressing and decompressing layer blobs, and telling what a blob is."""
