"""The image config: read, patched and written as Go does, by one of two readers (docs/adr/0002)."""
