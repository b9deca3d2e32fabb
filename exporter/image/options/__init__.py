"""The attributes of BuildKit's exporters: their names, parsing and errors."""
