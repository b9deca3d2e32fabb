"""File systems in one file, made by the programs of their projects."""
